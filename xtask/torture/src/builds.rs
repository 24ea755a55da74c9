//! Builds of one plugin, good ones and broken ones, made of a few libraries by changing bytes: cargo runs once.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xtask::elsewhere::Copy;

/// What stands in the library where every build has its own text.
const MARK: &[u8; 16] = b"mark-of-the-file";
/// Where an ELF file says for which machine it is.
const MACHINE: usize = 18;

/// The text of a build.
pub fn mark(build: u64) -> String {
    format!("build-{build:010}")
}

/// The build with this text.
pub fn number(mark: &str) -> Option<u64> {
    let digits = mark.strip_prefix("build-")?;
    (digits.len() == 10).then(|| digits.parse().ok())?
}

/// The libraries that all builds are made of.
#[derive(Debug)]
pub struct Builds {
    good: Vec<u8>,
    places: Vec<usize>,
    /// What breaks before or while code of it runs: what it is called, and its bytes.
    broken: Vec<(&'static str, Vec<u8>)>,
    hanging: Option<Vec<u8>>,
}

/// Libraries of the plugin with features that break it.
#[derive(Debug, Clone, Default)]
pub struct Special {
    /// Crashes while it is opened.
    pub crashing: Option<PathBuf>,
    /// Hangs while it is started.
    pub hanging: Option<PathBuf>,
    /// Was made for another ABI.
    pub other_abi: Option<PathBuf>,
}

impl Special {
    /// Builds them, with these arguments for cargo.
    ///
    /// # Errors
    /// One does not build.
    pub fn build(arguments: &[&str]) -> Result<Self> {
        let build = |feature: &str| {
            let name = format!("misbehaving-{}", feature.replace('_', "-"));
            let copy = Copy::new("misbehaving", &name)?;
            let feature = ["--features", feature];
            copy.build(&[arguments, &feature].concat()).map(Some)
        };
        Ok(Self {
            crashing: build("crash_in_constructor")?,
            hanging: build("slow_init")?,
            other_abi: build("wrong_abi")?,
        })
    }
}

impl Builds {
    /// Reads the library of the plugin, and those with a fault of their own.
    ///
    /// # Errors
    /// One cannot be read, or has no mark.
    pub fn read(library: &Path, special: &Special) -> Result<Self> {
        let good = read(library)?;
        let places: Vec<_> = memchr(&good, MARK);
        ensure!(
            !places.is_empty(),
            "{} has no mark in it",
            library.display()
        );
        let mut broken = damaged(&good);
        for (kind, file) in [
            ("a constructor that crashes", &special.crashing),
            ("another ABI", &special.other_abi),
        ] {
            if let Some(file) = file {
                broken.push((kind, read(file)?));
            }
        }
        Ok(Self {
            good,
            places,
            broken,
            hanging: special.hanging.as_deref().map(read).transpose()?,
        })
    }

    /// The library of a build.
    pub fn good(&self, build: u64) -> Vec<u8> {
        let mut bytes = self.good.clone();
        for place in &self.places {
            bytes[*place..place + MARK.len()].copy_from_slice(mark(build).as_bytes());
        }
        bytes
    }

    /// Kinds of broken ones.
    pub fn kinds(&self) -> usize {
        self.broken.len()
    }

    /// One that is refused at once: what it is called, and its bytes.
    pub fn broken(&self, kind: usize) -> (&'static str, &[u8]) {
        let (kind, bytes) = &self.broken[kind];
        (kind, bytes)
    }

    /// One that does not come back when it is started.
    pub fn hanging(&self) -> Option<&[u8]> {
        self.hanging.as_deref()
    }
}

fn damaged(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut machine = good.to_vec();
    // 8 is MIPS: nobody runs this here.
    machine[MACHINE..MACHINE + 2].copy_from_slice(&8u16.to_le_bytes());
    let major = change(good, b"GWPLUGIN\x01\x00", b"GWPLUGIN\x02\x00");
    let section = change(good, b".plugin_runner", b".another_thing");
    vec![
        ("empty", Vec::new()),
        ("not ELF", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("truncated to 10 bytes", good[..10].to_vec()),
        ("truncated to a third", good[..good.len() / 3].to_vec()),
        ("truncated at its end", good[..good.len() - 1].to_vec()),
        ("for another machine", machine),
        ("of another major version", major),
        ("not a plugin", section),
    ]
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

fn change(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for place in memchr(bytes, old) {
        changed[place..place + new.len()].copy_from_slice(new);
    }
    changed
}

fn memchr(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let starts = bytes.windows(part.len()).enumerate();
    starts
        .filter(|(_, window)| *window == part)
        .map(|(at, _)| at)
        .collect()
}
