//! Checks format, lints, licences and house rules. A tool that is not installed is said so and skipped.

use anyhow::Result;

use crate::{cargo, codegen, tidy};

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or the work fails.
pub fn run(arguments: Vec<String>) -> Result<()> {
    crate::no_more("lint", &arguments)?;
    if component("fmt") {
        cargo::run(cargo::cargo().args(["fmt", "--all", "--check"]))?;
    }
    if component("clippy") {
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        cargo::run(cargo::cargo().args(clippy))?;
    }
    if component("deny") {
        let deny = ["deny", "--config", ".deny.toml", "check"];
        cargo::run(cargo::cargo().args(deny))?;
    }
    codegen::run(vec!["--check".to_owned()])?;
    tidy::run(Vec::new())
}

fn component(name: &str) -> bool {
    let found = cargo::has(cargo::cargo().arg(name));
    if !found {
        println!("skipped: `cargo {name}` is not installed");
    }
    found
}
