//! What an archive must not tell: the folders of the machine that made it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cargo;

/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`, so that folders may have spaces.
const SEPARATOR: &str = "\u{1f}";

/// A folder of this machine, and what the compiler writes instead.
struct Folder {
    path: PathBuf,
    name: &'static str,
}

/// Where sources lie that get into programs: later ones count before earlier ones.
fn folders() -> Result<Vec<Folder>> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| home.map(|home| home.join(".cargo")));
    let mut command = Command::new("rustc");
    command.current_dir(cargo::root());
    let output = command.args(["--print", "sysroot"]).output();
    let sysroot = String::from_utf8(output.context("starting rustc")?.stdout)?;
    let mut folders = vec![Folder {
        path: PathBuf::from(sysroot.trim()),
        name: "rust",
    }];
    folders.extend(cargo_home.map(|path| Folder {
        path,
        name: "cargo",
    }));
    folders.push(Folder {
        path: cargo::root(),
        name: ".",
    });
    folders.retain(|folder| folder.path.is_absolute());
    Ok(folders)
}

/// For `CARGO_ENCODED_RUSTFLAGS`: the same source gives the same program, wherever it lies.
///
/// # Errors
/// rustc does not say where it lies.
pub(super) fn flags() -> Result<String> {
    let folders = folders()?;
    let flags = folders.iter().map(|folder| {
        let (path, name) = (folder.path.display(), folder.name);
        format!("--remap-path-prefix={path}={name}")
    });
    Ok(flags.collect::<Vec<_>>().join(SEPARATOR))
}

/// Looks for them in what was built.
///
/// # Errors
/// One is there: which, and in which file.
pub(super) fn none_in(files: &[PathBuf]) -> Result<()> {
    for folder in folders()? {
        let text = folder.path.as_os_str().as_encoded_bytes();
        for file in files {
            if contains(&fs::read(file)?, text) {
                let (file, folder) = (file.display(), folder.path.display());
                bail!("{file} names the folder {folder} of this machine");
            }
        }
    }
    Ok(())
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let first = text.first().copied().unwrap_or_default();
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    starts
        .map(|(at, _)| &bytes[at..])
        .any(|rest| rest.starts_with(text))
}

/// Whether a file is a program or a library.
pub(super) fn is_elf(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_this_machine_are_renamed_by_flags_and_found_where_they_stay() {
        let flags = flags().unwrap();
        let own = cargo::root();
        assert!(flags.contains(&format!("--remap-path-prefix={}=.", own.display())));
        let file =
            std::env::temp_dir().join(format!("plugin-runner-traces-{}", std::process::id()));
        let looked = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            none_in(std::slice::from_ref(&file))
        };
        let place = format!("panicked at {}/runner/src/lib.rs", own.display());
        let (clean, traced) = (looked(b"at ./runner/src/lib.rs"), looked(place.as_bytes()));
        fs::remove_file(&file).unwrap();
        assert!(clean.is_ok(), "{clean:?}");
        let said = traced.unwrap_err().to_string();
        assert!(said.contains("names the folder"), "{said}");
    }
}
