//! Does everything to a runner that can happen to it: builds the runner, the plugins and what tortures it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{cargo, plugins};

/// Runs the task. `--debug` builds without optimisations; the other arguments go to the program `torture`, whose `--help`
/// lists them.
///
/// # Errors
/// Something does not build, or the runner breaks a promise.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let (debug, rest): (Vec<_>, Vec<_>) = arguments
        .into_iter()
        .partition(|argument| argument == "--debug");
    let release = debug.is_empty();
    let folder = cargo::target_folder()?.join("torture-plugins");
    plugins::build(&plugins::Options {
        out: folder.clone(),
        release,
        with_test_plugins: true,
    })?;
    let runner = program("plugin-runner", release)?;
    let mut command = Command::new(program("torture", release)?);
    command.arg("--runner").arg(runner);
    command.arg("--plugins").arg(folder);
    if release {
        command.arg("--release");
    }
    cargo::run(command.args(rest))
}

/// Builds one program, alone: together with others it would get their features, too.
fn program(package: &str, release: bool) -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command.args(["build", "--package", package]);
    if release {
        command.arg("--release");
    }
    let mut files = cargo::build(&mut command)?.into_iter();
    let program = files.find(|file| file.file_name().is_some_and(|name| name == package));
    program.with_context(|| format!("the build made no {package}"))
}
