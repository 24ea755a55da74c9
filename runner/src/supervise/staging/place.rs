//! Where private copies live: a folder of this supervisor in `state.dir`, or private memory.
//!
//! Each supervisor holds a lock on its folder, so that a later one knows whose folders to clean up.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals, flock,
    memfd_create, openat, unlinkat,
};

use crate::supervise::state::{StateDir, StateError};
use crate::supervise::workshop::{Library, Sha256};

/// The folder of folders in `state.dir`.
const LIBRARIES: &str = "libraries";

/// Folders tried before giving up.
const ATTEMPTS: u32 = 5;

/// A place for copies.
#[derive(Debug)]
pub enum Place {
    /// Files, which debuggers find by name.
    Folder(StateDir),
    /// Sealed memory, for where no folder can be had.
    Memory,
}

impl Place {
    /// A new folder in `state.dir`; folders that supervisors left which are gone are removed.
    ///
    /// # Errors
    /// When there cannot be one.
    pub fn folder(state: &StateDir) -> Result<Self, StateError> {
        let all = state.folder(LIBRARIES)?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let name = format!(
                "{}-{:x}",
                std::process::id(),
                now.map_or(0, |now| now.as_nanos())
            );
            let ours = all.folder(&name)?;
            // Somebody who cleans up may be faster than the lock.
            last = flock(&ours, FlockOperation::NonBlockingLockExclusive).err();
            if last.is_none() && ours.is_in_place() {
                clean_up(&all, &name);
                return Ok(Self::Folder(ours));
            }
        }
        let path = all.path().to_owned();
        let cause = last.map_or_else(
            || io::Error::other("it is removed again and again"),
            Into::into,
        );
        Err(StateError::System { path, cause })
    }

    /// Keeps a copy: its path, and the opened copy. Where the folder does not take it, it is kept in memory, without a
    /// path.
    ///
    /// # Errors
    /// When there is no memory either.
    pub(super) fn keep(
        &self,
        original: &Path,
        bytes: &[u8],
        sha256: Sha256,
        generation: u64,
    ) -> io::Result<(PathBuf, OwnedFd)> {
        let stem = original.file_stem().unwrap_or_default().to_string_lossy();
        let hash = &sha256.to_string()[..8];
        if let Self::Folder(folder) = self {
            // A file name has 255 bytes at most.
            let stem: String = stem.chars().take(48).collect();
            let name = format!("{stem}-{hash}-{generation}.so");
            match write_copy(folder, &name, bytes) {
                Ok(copy) => return Ok((folder.path().join(name), copy)),
                Err(cause) => tracing::warn!(
                    cause = %cause,
                    hint = "make room in state.dir, or restart the runner if it was removed",
                    "the copy of {} is kept in memory: {} does not take it",
                    original.display(),
                    folder.path().display()
                ),
            }
        }
        let stem: String = stem.chars().take(24).collect();
        let memory = sealed(&format!("{stem}-{hash}-{generation}"), bytes)?;
        Ok((PathBuf::new(), memory))
    }

    /// Deletes a copy. A worker that has it open keeps it.
    pub fn discard(&self, library: &Library) {
        if let Self::Folder(_) = self {
            let _ = fs::remove_file(&library.path);
        }
    }

    /// Deletes all copies.
    pub fn remove(&self) {
        if let Self::Folder(folder) = self {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}

/// The copy, opened for reading.
fn write_copy(folder: &StateDir, name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let file = openat(folder, name, flags, mode)?;
    let mut file = fs::File::from(file);
    let written = file.write_all(bytes);
    // The umask may have taken what the worker needs.
    let written = written.and_then(|()| Ok(fchmod(file.as_fd(), mode)?));
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = written.and_then(|()| Ok(openat(folder, name, read, Mode::empty())?));
    if opened.is_err() {
        let _ = unlinkat(folder, name, AtFlags::empty());
    }
    opened
}

fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = fs::File::from(memory);
    file.write_all(bytes)?;
    let memory = OwnedFd::from(file);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

/// Removes the folders that nobody holds a lock on.
fn clean_up(all: &StateDir, ours: &str) {
    let Ok(entries) = fs::read_dir(all.path()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| *name != ours) else {
            continue;
        };
        if let Ok(folder) = all.folder(name)
            && flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
