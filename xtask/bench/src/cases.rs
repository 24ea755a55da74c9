//! What is measured beside the table: other sizes, other circumstances. Each case starts servers of its own.

pub mod blocking;
pub mod bodies;
pub mod loops;
pub mod memory;
pub mod recycles;
pub mod sizes;
pub mod starts;
pub mod swaps;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::server;

/// The plugins of a usual folder.
const TEN: [&str; 10] = [
    "acl",
    "bench-headers",
    "bot-detection",
    "fault-injection",
    "ip-restriction",
    "key-auth",
    "limit-req",
    "response-rewrite",
    "rewrite",
    "say",
];

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

    /// A folder with ten libraries, the usual number.
    ///
    /// # Errors
    /// One of them was not built.
    pub fn ten(&self) -> Result<TempDir> {
        let folder = server::folder()?;
        for plugin in TEN {
            let library = self.library(plugin);
            let name = library.file_name().unwrap_or_default();
            fs::copy(&library, folder.path().join(name))
                .with_context(|| library.display().to_string())?;
        }
        Ok(folder)
    }

    /// The library of one plugin, with other bytes in the place of some.
    ///
    /// # Errors
    /// It cannot be read, or has no such bytes.
    pub fn patched(&self, plugin: &str, old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
        patched(&fs::read(self.library(plugin))?, old, new)
    }
}

/// A copy with other bytes in the place of some.
///
/// # Errors
/// There are no such bytes.
pub fn patched(bytes: &[u8], old: &[u8], new: &[u8]) -> Result<Vec<u8>> {
    anyhow::ensure!(old.len() == new.len(), "bytes in the place of as many");
    let places = bytes.windows(old.len()).enumerate();
    let places = places.filter(|(_, part)| *part == old);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    places.first().context("the library has no such bytes")?;
    let mut bytes = bytes.to_vec();
    for at in places {
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    Ok(bytes)
}

/// What was measured in one circumstance.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The circumstance.
    pub name: String,
    /// What was measured, with its unit, in the order of showing.
    pub figures: Vec<(&'static str, f64)>,
    /// What some of them are to be at most.
    pub targets: Vec<(&'static str, f64)>,
    /// Whether it is shown in one line: one of many that are compared.
    pub in_a_line: bool,
}

impl Finding {
    /// Nothing measured so far.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            figures: Vec::new(),
            targets: Vec::new(),
            in_a_line: false,
        }
    }

    /// Adds a figure.
    #[must_use]
    pub fn with(mut self, what: &'static str, value: f64) -> Self {
        self.figures.push((what, value));
        self
    }

    /// Says what a figure is to be at most.
    #[must_use]
    pub fn at_most(mut self, what: &'static str, target: f64) -> Self {
        self.targets.push((what, target));
        self
    }

    /// Its name and the ratio it is judged by, if it has one.
    pub fn ratio(&self) -> Option<(String, f64)> {
        let mut figures = self.figures.iter();
        let ratio = figures.find(|(what, _)| what.ends_with("ratio") || what.contains("against"));
        ratio.map(|(_, value)| (self.name.clone(), *value))
    }

    /// For people: the name, then the figures, each in a line or all in one.
    pub fn lines(&self) -> String {
        if self.in_a_line {
            let figures = self.figures.iter();
            let figures = figures.map(|(what, value)| {
                let digits = if value.abs() < 100.0 { 2 } else { 0 };
                format!("  {what} {value:>8.digits$}")
            });
            return format!("{:<40}{}", self.name, figures.collect::<String>());
        }
        let mut lines = self.name.clone();
        for (what, value) in &self.figures {
            let digits = if value.abs() < 100.0 { 2 } else { 0 };
            lines += &format!("\n    {what:<26} {value:>12.digits$}");
            let mut targets = self.targets.iter();
            if let Some((_, target)) = targets.find(|(figure, _)| figure == what) {
                let mark = if value > target { "  <- above" } else { "" };
                lines += &format!("   (at most {target:.2}){mark}");
            }
        }
        lines
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let figures = self.figures.iter();
        let figures: Map<_, _> = figures
            .map(|(what, value)| ((*what).to_owned(), json!((value * 1e3).round() / 1e3)))
            .collect();
        let targets = self.targets.iter();
        let targets: Map<_, _> = targets
            .map(|(what, target)| ((*what).to_owned(), json!(target)))
            .collect();
        json!({ "name": self.name, "figures": figures, "at_most": targets })
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
        "memory" => memory::measure(setup)?,
        "recycles" => recycles::measure(setup)?,
        "loops" => loops::measure(setup)?,
        _ => return Ok(None),
    }))
}

/// All names.
pub const NAMES: [&str; 8] = [
    "starts", "memory", "blocking", "swaps", "recycles", "sizes", "bodies", "loops",
];

/// The part of sorted latencies, in microseconds.
pub fn percentile(latencies: &mut [u32], part: f64) -> f64 {
    latencies.sort_unstable();
    let last = latencies.len().saturating_sub(1);
    let at = (last as f64 * part) as usize;
    latencies.get(at).copied().map_or(f64::NAN, f64::from) / 1e3
}
