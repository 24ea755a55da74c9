//! Makes the archive once more from a copy of the sources in another folder: the same sources have to give the same bytes,
//! whoever makes them and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo;

/// Makes it again and compares.
///
/// # Errors
/// It cannot be made there, or comes out different.
pub(super) fn compare(archive: &Path, arguments: &[&str], time: &str) -> Result<()> {
    println!("making it again in another folder");
    let copy = std::env::temp_dir().join(format!("plugin-runner-again-{}", std::process::id()));
    sources(&copy)?;
    let made = make(&copy, archive, arguments, time);
    let same = made.and_then(|made| Ok(fs::read(made)? == fs::read(archive)?));
    if !matches!(same, Ok(false)) {
        fs::remove_dir_all(&copy)?;
    }
    ensure!(
        same?,
        "the archive that was made in {} is another one: compare what is in both",
        copy.display()
    );
    println!("the same archive came out");
    Ok(())
}

fn make(copy: &Path, archive: &Path, arguments: &[&str], time: &str) -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command.current_dir(copy).args(["xtask", "dist"]);
    command.args(arguments).env("SOURCE_DATE_EPOCH", time);
    for name in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR"] {
        command.env_remove(name);
    }
    cargo::run(&mut command)?;
    let name = archive.file_name().context("the archive has no name")?;
    Ok(copy.join("target/dist").join(name))
}

/// Everything that git knows or would take, as it is now.
fn sources(copy: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others"]);
    let output = git
        .arg("--exclude-standard")
        .current_dir(cargo::root())
        .output()
        .context("starting git")?;
    if !output.status.success() {
        bail!("git does not know which files are sources");
    }
    for file in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let (from, to) = (cargo::root().join(file), copy.join(file));
        if !from.exists() {
            continue; // removed, and not yet told to git
        }
        fs::create_dir_all(to.parent().unwrap_or(copy))?;
        fs::copy(&from, &to).with_context(|| format!("copying {file}"))?;
    }
    Ok(())
}
