//! What is built from the kept versions of the ABI (`tests/frozen`), with the compiler of today: once in a run.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use xtask::{cargo, freeze, plugins};

static BUILT: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);

/// The plugin of a kept version, built from its own copy of the contract.
pub fn plugin(version: &str) -> PathBuf {
    built(version, "frozen", "libfrozen.so")
}

/// What the runner of a kept version says of a library that it runs with this conf.
pub fn oldest_runner(version: &str, library: &std::path::Path, conf: &str) -> String {
    let mut command = Command::new(built(version, "oldest-runner", "oldest-runner"));
    let output = command.arg(library).arg(conf).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{errors}",
        output.status
    );
    said
}

fn built(version: &str, package: &str, file: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    let key = format!("{version}/{package}");
    let made = built
        .entry(key)
        .or_insert_with(|| build(version, package, file));
    made.clone()
}

fn build(version: &str, package: &str, file: &str) -> PathBuf {
    let target = cargo::target_folder().unwrap();
    let mut command = cargo::cargo();
    command.args(["build", "--quiet", "--locked", "--package", package]);
    command.arg("--target-dir").arg(&target);
    command.current_dir(freeze::folder().join(version));
    let files = cargo::build(&mut command).unwrap();
    let made = files.into_iter().find(|made| made.ends_with(file));
    // A copy: the next version takes its place in cargo's folder.
    let own = target.join("frozen").join(version);
    fs::create_dir_all(&own).unwrap();
    plugins::lay_as(&made.expect("the build makes it"), &own, file).unwrap()
}
