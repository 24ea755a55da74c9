//! Calls cargo, and knows where the project lies. Never downloads or installs a tool.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Makes cargo name the files it makes, for programs; people still see its progress and what fails.
pub const JSON: &str = "--message-format=json-render-diagnostics";

/// The project's top folder.
pub fn root() -> PathBuf {
    // `cargo run` says where the package lies now; the value of the build would be stale after a move.
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut folders = own.ancestors();
    let top = folders.find(|folder| folder.join("Cargo.lock").is_file());
    top.map_or_else(|| own.clone(), Path::to_path_buf)
}

/// The cargo that runs us, in the project's folder.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Whether a tool answers to `--version`.
pub fn has(command: &mut Command) -> bool {
    let command = command.arg("--version").stdin(Stdio::null());
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command whose output the user sees.
///
/// # Errors
/// It cannot be started or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command
        .status()
        .with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Builds with the given arguments, shows cargo's progress, and returns the files that came out.
///
/// # Errors
/// The build fails.
pub fn build(command: &mut Command) -> Result<Vec<PathBuf>> {
    artifacts(command.arg(JSON))
}

/// As [`build`], for a command that has [`JSON`] among its arguments already.
///
/// # Errors
/// The build fails.
pub fn artifacts(command: &mut Command) -> Result<Vec<PathBuf>> {
    let shown = shown(command);
    let child = command.stdout(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("starting `{shown}`"))?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{shown}` failed ({})", output.status);
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.flat_map(|message| files_of(&message)).collect())
}

fn files_of(message: &Value) -> Vec<PathBuf> {
    if message["reason"] != "compiler-artifact" {
        return Vec::new();
    }
    let files = message["filenames"].as_array().into_iter().flatten();
    let executable = message["executable"].as_str();
    let files = files.filter_map(Value::as_str).chain(executable);
    files.map(PathBuf::from).collect()
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A package of the workspace.
pub struct Package {
    /// Its name.
    pub name: String,
    /// The folder of its manifest.
    pub folder: PathBuf,
    /// `[package.metadata.plugin-runner] test = true`: exists for tests only.
    pub for_tests: bool,
}

/// Where cargo puts what it builds.
///
/// # Errors
/// cargo cannot read the workspace.
pub fn target_folder() -> Result<PathBuf> {
    let folder = metadata()?["target_directory"].as_str().map(PathBuf::from);
    folder.context("`cargo metadata` names no target folder")
}

/// The version of a package of the workspace.
///
/// # Errors
/// cargo cannot read the workspace, or there is no such package.
pub fn version(package: &str) -> Result<String> {
    let metadata = metadata()?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|found| found["name"] == package);
    let version = found.and_then(|found| found["version"].as_str());
    Ok(version
        .with_context(|| format!("there is no package `{package}`"))?
        .to_owned())
}

/// The target triple of this machine.
///
/// # Errors
/// rustc does not say.
pub fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let text = String::from_utf8(output.context("starting rustc")?.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("`rustc -vV` names no host")?.to_owned())
}

/// The packages under `example-plugins`, by name.
///
/// # Errors
/// cargo cannot read the workspace.
pub fn plugin_packages() -> Result<Vec<Package>> {
    let metadata = metadata()?;
    let folder = root().join("example-plugins");
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let packages = packages.filter_map(package);
    let mut packages: Vec<_> = packages
        .filter(|package| package.folder.starts_with(&folder))
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn metadata() -> Result<Value> {
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("starting `cargo metadata`")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed ({})", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn package(value: &Value) -> Option<Package> {
    let manifest = Path::new(value["manifest_path"].as_str()?);
    Some(Package {
        name: value["name"].as_str()?.to_owned(),
        folder: manifest.parent()?.to_path_buf(),
        for_tests: value["metadata"]["plugin-runner"]["test"] == true,
    })
}
