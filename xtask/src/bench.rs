//! Measures the runner against the limit: builds what is to be measured and what measures, both with optimisations.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, plugins};

/// Runs the task. The arguments go to the measuring program; `--help` lists them.
///
/// # Errors
/// Something does not build, a server answers wrongly, or with `--guard` the runner has become slower.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let folder = cargo::target_folder()?.join("bench-plugins");
    plugins::build(&plugins::Options {
        out: folder.clone(),
        release: true,
        with_test_plugins: true,
    })?;
    let runner = program("plugin-runner")?;
    let bench = program("bench")?;
    let mut command = Command::new(bench);
    command.arg("--runner").arg(runner);
    command.arg("--plugins").arg(folder).args(arguments);
    cargo::run(&mut command)
}

/// Builds one program, alone: together with others it would get their features, too.
fn program(package: &str) -> Result<PathBuf> {
    let files = cargo::build(cargo::cargo().args(["build", "--release", "--package", package]))?;
    let mut files = files.into_iter();
    let program = files.find(|file| file.file_name().is_some_and(|name| name == package));
    program.with_context(|| format!("the build made no {package}"))
}
