//! Runs every test: unit tests, doctests, and the end-to-end tests with the real runner and real libraries.

use std::time::Instant;

use anyhow::Result;

use crate::{cargo, plugins};

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or the work fails.
pub fn run(arguments: Vec<String>) -> Result<()> {
    crate::no_more("test", &arguments)?;
    let started = Instant::now();
    // The end-to-end tests build both themselves; here the user sees the progress.
    println!("building the plugins and the runner");
    plugins::build(&plugins::Options {
        out: cargo::target_folder()?.join("test-plugins"),
        release: false,
        with_test_plugins: true,
    })?;
    cargo::build(cargo::cargo().args(["build", "--package", "plugin-runner"]))?;
    println!("running the tests");
    cargo::run(cargo::cargo().args(["test", "--workspace", "--no-fail-fast"]))?;
    println!("all tests passed in {} s", started.elapsed().as_secs());
    Ok(())
}
