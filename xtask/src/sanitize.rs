//! Runs the tests under checkers of memory: Miri on both sides of plugin-api's border, AddressSanitizer on the real
//! runner with real libraries. Not part of the test command: both build everything anew and are slow. A tool that is not
//! there is said so and skipped; nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, plugins};

/// End-to-end tests that say something under AddressSanitizer: calls, failures, swaps, libraries that are not
/// sanitized. Those that count memory or crash on purpose do not.
const TESTS: [&str; 6] = [
    "failing::",
    "frozen::a_library",
    "kong_plugins::",
    "replay::",
    "serving::",
    "swapping::",
];

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or a checker has found something.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let (miri_wanted, address_wanted) = match arguments.first().map(String::as_str) {
        None => (true, true),
        Some("miri") => (true, false),
        Some("address") => (false, true),
        Some(other) => bail!("`cargo xtask sanitize` does not know `{other}`"),
    };
    if miri_wanted {
        miri()?;
    }
    if address_wanted {
        address()?;
    }
    Ok(())
}

fn miri() -> Result<()> {
    if !cargo::has(nightly().arg("miri")) {
        println!(
            "skipped: Miri is not installed (rustup toolchain install nightly --component miri)"
        );
        return Ok(());
    }
    println!("Miri: plugin-api with its test kit as the host");
    let tests = ["--lib", "--test", "it", "--test", "moving"];
    let mut command = nightly();
    command.args([
        "miri",
        "test",
        "--package",
        "gateway-plugin-api",
        "--features",
        "testing",
    ]);
    // The layout test reads a file.
    command
        .args(tests)
        .env("MIRIFLAGS", "-Zmiri-disable-isolation");
    command
        .arg("--target-dir")
        .arg(cargo::target_folder()?.join("miri"));
    cargo::run(&mut command)
}

/// The nightly cargo. Whatever runs us has told its children which toolchain to use: that must not reach it.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command
        .current_dir(cargo::root())
        .args(["run", "nightly", "cargo"]);
    command
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}

fn address() -> Result<()> {
    let target = cargo::host()?;
    if !target.ends_with("-linux-gnu") {
        println!("skipped: AddressSanitizer is not set up for {target}");
        return Ok(());
    }
    println!("AddressSanitizer: the runner and all plugins");
    let folder = cargo::target_folder()?.join("sanitized");
    let reports = folder.join("reports");
    if reports.exists() {
        fs::remove_dir_all(&reports)?;
    }
    fs::create_dir_all(&reports)?;
    // As root, the worker is somebody else.
    fs::set_permissions(&reports, fs::Permissions::from_mode(0o777))?;
    build(&target, &folder)?;
    let mut command = cargo::cargo();
    command
        .args(["test", "--package", "e2e", "--test", "e2e", "--"])
        .args(TESTS);
    command.env("E2E_ARTIFACTS", &folder);
    // Libraries stay mapped and their functions live for ever: leaks by design. What is found ends the process.
    let options = format!("detect_leaks=0:log_path={}", reports.join("asan").display());
    command.env("ASAN_OPTIONS", options);
    let tested = cargo::run(&mut command);
    let found = show(&reports)?;
    if found > 0 {
        bail!(
            "AddressSanitizer has found something: see {}",
            reports.display()
        );
    }
    println!("AddressSanitizer has found nothing");
    tested
}

/// Lays a sanitized runner and sanitized libraries into `folder`.
fn build(target: &str, folder: &Path) -> Result<()> {
    let mut command = cargo::cargo();
    // With a target of its own, build scripts and macros stay as they are.
    command.args(["build", "--target", target, "--package", "plugin-runner"]);
    let mut wanted = vec!["plugin-runner".to_owned()];
    for package in cargo::plugin_packages()? {
        command.args(["--package", &package.name]);
        wanted.push(format!("lib{}.so", package.name.replace('-', "_")));
    }
    command
        .arg("--target-dir")
        .arg(cargo::target_folder()?.join("asan"));
    // The runtime is in the runner: its symbols have to be there for the libraries.
    command.env(
        "RUSTFLAGS",
        "-Zsanitizer=address -Clink-arg=-rdynamic -Cforce-frame-pointers=yes",
    );
    command.env("RUSTC_BOOTSTRAP", "1");
    let files = cargo::build(&mut command)?;
    for file in &files {
        // Macros are libraries too.
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if wanted.iter().any(|wanted| *wanted == name) {
            plugins::lay_as(file, folder, &name)?;
        }
    }
    Ok(())
}

/// Prints what the processes have left, and says how many there were.
fn show(reports: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(reports)? {
        println!("{}", fs::read_to_string(entry?.path())?);
        count += 1;
    }
    Ok(count)
}
