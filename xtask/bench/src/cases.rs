//! What is measured beside the table: other sizes, other circumstances. Each case starts servers of its own.

pub mod blocking;
pub mod bodies;
pub mod sizes;
pub mod starts;
pub mod swaps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

/// What a case needs.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The runner's program.
    pub runner: &'a Path,
    /// The libraries.
    pub plugins: &'a Path,
    /// Seconds of one measurement.
    pub seconds: f64,
    /// Turns, where a case has several.
    pub rounds: usize,
}

impl Setup<'_> {
    /// The library of one plugin.
    pub fn library(&self, plugin: &str) -> PathBuf {
        let name = format!("lib{}.so", plugin.replace('-', "_"));
        self.plugins.join(name)
    }

    /// The library of one plugin, with other bytes in the place of some.
    ///
    /// # Errors
    /// It cannot be read, or has no such bytes.
    pub fn patched(&self, plugin: &str, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
        anyhow::ensure!(old.len() == new.len(), "bytes in the place of as many");
        let mut bytes = fs::read(self.library(plugin))?;
        let places = bytes.windows(old.len()).enumerate();
        let places = places.filter(|(_, part)| *part == old);
        let places: Vec<usize> = places.map(|(at, _)| at).collect();
        places.first().context("the library has no such bytes")?;
        for at in places {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
        Ok(bytes)
    }
}

/// What was measured in one circumstance.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The circumstance.
    pub name: String,
    /// What was measured, with its unit, in the order of showing.
    pub figures: Vec<(&'static str, f64)>,
}

impl Finding {
    /// Nothing measured so far.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            figures: Vec::new(),
        }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, what: &'static str, value: f64) -> Self {
        self.figures.push((what, value));
        self
    }

    /// Its name and the ratio it is judged by, if it has one.
    pub fn ratio(&self) -> Option<(String, f64)> {
        let mut figures = self.figures.iter();
        let ratio = figures.find(|(what, _)| what.ends_with("ratio") || what.contains("against"));
        ratio.map(|(_, value)| (self.name.clone(), *value))
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let figures = self.figures.iter();
        let figures: Vec<String> = figures
            .map(|(what, value)| format!("{what} {value:.2}"))
            .collect();
        format!("{:<40} {}", self.name, figures.join(", "))
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let figures = self.figures.iter();
        let figures: Map<_, _> = figures
            .map(|(what, value)| ((*what).to_owned(), json!((value * 1e3).round() / 1e3)))
            .collect();
        json!({ "name": self.name, "figures": figures })
    }
}

/// Measures one case by its name; `None` if there is none.
///
/// # Errors
/// A server does not start, or answers wrongly.
pub fn measure(name: &str, setup: &Setup<'_>) -> Result<Option<Vec<Finding>>> {
    Ok(Some(match name {
        "starts" => starts::measure(setup)?,
        "blocking" => blocking::measure(setup)?,
        "swaps" => swaps::measure(setup)?,
        "sizes" => sizes::measure(setup)?,
        "bodies" => bodies::measure(setup)?,
        _ => return Ok(None),
    }))
}

/// All names.
pub const NAMES: [&str; 5] = ["starts", "blocking", "swaps", "sizes", "bodies"];

/// The part of sorted latencies, in microseconds.
pub fn percentile(latencies: &mut [u32], part: f64) -> f64 {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let at = (last as f64 * part) as usize;
    latencies.get(at).copied().map_or(f64::NAN, f64::from) / 1e3
}
