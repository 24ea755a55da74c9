//! The ways in which people put a file into a folder.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A way to replace a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `mv`: written elsewhere, then renamed over it.
    Rename,
    /// `rm`, then `cp`.
    RemoveAndCopy,
    /// `cp`: written over in place, in pieces.
    InPlace,
    /// `ln -sfn`: a link that is renamed over it.
    Link,
    /// What cargo does: a hard link to a file elsewhere.
    HardLink,
}

/// All ways.
pub const WAYS: [Way; 5] = [
    Way::Rename,
    Way::RemoveAndCopy,
    Way::InPlace,
    Way::Link,
    Way::HardLink,
];

/// A plugins folder and a place beside it, on the same file system.
#[derive(Debug)]
pub struct Folder {
    plugins: PathBuf,
    beside: PathBuf,
    laid: u64,
}

impl Folder {
    /// Both folders are there.
    pub fn new(plugins: PathBuf, beside: PathBuf) -> Self {
        Self {
            plugins,
            beside,
            laid: 0,
        }
    }

    /// Replaces a file.
    ///
    /// # Errors
    /// The system refuses.
    pub fn lay(&mut self, way: Way, name: &str, bytes: &[u8]) -> io::Result<()> {
        let target = self.plugins.join(name);
        // Over a link, `cp` writes into what it leads to; and that may be what was read last.
        if way == Way::InPlace && target.is_symlink() {
            fs::remove_file(&target)?;
        }
        match way {
            Way::Rename => {
                let source = self.write(bytes)?;
                fs::rename(source, target)
            }
            Way::RemoveAndCopy => {
                fs::remove_file(&target).or_else(unless_missing)?;
                fs::write(target, bytes)
            }
            Way::InPlace => {
                if target.exists() {
                    // It keeps its mode, which may be what was wrong with it.
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o644))?;
                }
                in_pieces(&target, bytes)
            }
            Way::Link => {
                let (source, link) = (self.write(bytes)?, self.beside.join("link"));
                fs::remove_file(&link).or_else(unless_missing)?;
                symlink(source, &link)?;
                fs::rename(link, target)
            }
            Way::HardLink => {
                let source = self.write(bytes)?;
                fs::remove_file(&target).or_else(unless_missing)?;
                fs::hard_link(&source, target)
            }
        }
    }

    /// A link to nothing in its place.
    ///
    /// # Errors
    /// The system refuses.
    pub fn dangle(&mut self, name: &str) -> io::Result<()> {
        let link = self.beside.join("link");
        fs::remove_file(&link).or_else(unless_missing)?;
        symlink(self.beside.join("nothing"), &link)?;
        fs::rename(link, self.plugins.join(name))
    }

    /// A file in its place that others may write, which makes it unfit.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open_to_all(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let source = self.write(bytes)?;
        fs::set_permissions(&source, fs::Permissions::from_mode(0o666))?;
        fs::rename(source, self.plugins.join(name))
    }

    /// Writes a file beside the folder. The one before the last is not linked to any more and goes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<PathBuf> {
        self.laid += 1;
        let old = self.laid.saturating_sub(2);
        fs::remove_file(self.file(old)).or_else(unless_missing)?;
        let file = self.file(self.laid);
        fs::write(&file, bytes)?;
        Ok(file)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.beside.join(number.to_string())
    }
}

fn in_pieces(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .open(target)?;
    for piece in bytes.chunks(bytes.len() / 5 + 1) {
        file.write_all(piece)?;
    }
    Ok(())
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}
