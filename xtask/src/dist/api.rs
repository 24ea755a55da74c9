//! Lays plugin-api beside the program: `plugin-runner new` finds it there, so that whoever has the archive can write
//! plugins against the version that the program was made with.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cargo;
use crate::elsewhere::copy_folder;

/// What an author's build reads, and what an author reads.
const PARTS: [&str; 10] = [
    "build.rs",
    "src",
    "guide",
    "macros",
    "README.md",
    "MOVING.md",
    "KONG.md",
    "CHANGELOG.md",
    "LICENSE",
    "Cargo.toml",
];
/// From here on the manifest is about its own tests, which are not laid.
const OWN_TESTS: &str = "[dev-dependencies]";

/// Lays the package and its macros into `folder`/plugin-api.
///
/// # Errors
/// Something is missing or cannot be written.
pub fn lay(folder: &Path) -> Result<()> {
    let (from, to) = (cargo::root().join("plugin-api"), folder.join("plugin-api"));
    fs::create_dir_all(&to)?;
    for part in PARTS {
        let (from, to) = (from.join(part), to.join(part));
        let laid = match from.is_dir() {
            true => copy_folder(&from, &to),
            false => fs::copy(&from, &to).map(drop).map_err(Into::into),
        };
        laid.with_context(|| format!("laying {}", from.display()))?;
    }
    let manifest = to.join("Cargo.toml");
    let text = alone(&fs::read_to_string(&manifest)?)?;
    Ok(fs::write(manifest, text)?)
}

/// The manifest as the root of a workspace of its own, with what it takes from ours.
fn alone(manifest: &str) -> Result<String> {
    let workspace = fs::read_to_string(cargo::root().join("Cargo.toml"))?;
    let (_, shared) = workspace
        .split_once("[workspace.package]")
        .context("the workspace's manifest has no [workspace.package]")?;
    let (shared, _) = shared
        .split_once("\n[profile.")
        .context("the workspace's manifest has no profile after what is shared")?;
    let shared = shared
        .replace("path = \"plugin-api/macros\"", "path = \"macros\"")
        .replace("path = \"plugin-api\"", "path = \".\"");
    // Not there.
    let shared: Vec<_> = shared
        .lines()
        .filter(|line| !line.starts_with("plugin-runner ="))
        .collect();
    let own = manifest.split(OWN_TESTS).next().unwrap_or(manifest);
    Ok(format!(
        "{own}[workspace]\nresolver = \"3\"\nmembers = [\"macros\"]\n\n[workspace.package]{}\n",
        shared.join("\n")
    ))
}
