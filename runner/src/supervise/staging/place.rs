//! Where private copies live: a folder of this supervisor in `state.dir`, or private memory.
//!
//! Each supervisor holds a lock on its folder, so that a later one knows whose folders to clean up.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, fchmod, fcntl_add_seals,
    flock, linkat, memfd_create, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use sha2::Digest;

use crate::supervise::state::{StateDir, StateError};
use crate::supervise::workshop::{Library, Sha256};

/// The folder of folders in `state.dir`.
const LIBRARIES: &str = "libraries";

/// A copy is read by the worker, and changed by nobody.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Bytes copied and summed at a time: they stay in the processor's cache between both.
const PART: usize = 128 << 10;

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

    /// Keeps a copy of what `original` holds, `size` bytes, named like `file`; reads it once. Where the folder does not take it, in memory.
    ///
    /// # Errors
    /// When the original cannot be read, or there is no memory either.
    pub(super) fn keep(
        &self,
        file: &Path,
        original: &mut (impl Read + Seek),
        size: u64,
        generation: u64,
    ) -> io::Result<Kept> {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        if let Self::Folder(folder) = self {
            match write_copy(folder, &stem, original, size, generation) {
                Err(CopyError::Written(cause)) => tracing::warn!(
                    cause = %cause,
                    hint = "make room in state.dir, or restart the runner if it was removed",
                    "the copy of {} is kept in memory: {} does not take it",
                    file.display(),
                    folder.path().display()
                ),
                kept => return kept.map_err(CopyError::into_cause),
            }
        }
        let stem: String = stem.chars().take(24).collect();
        sealed(&format!("{stem}-{generation}"), original, size).map_err(CopyError::into_cause)
    }

    /// Keeps what lies on the same disk already and never changes, without copying it: `None` where that cannot be.
    pub(super) fn link(
        &self,
        file: &Path,
        original: &File,
        sha256: Sha256,
        generation: u64,
    ) -> Option<Kept> {
        let Self::Folder(folder) = self else {
            return None;
        };
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = name(&stem, sha256, generation);
        link(original, folder, &name).ok()?;
        let opened = open_copy(folder, &name);
        if opened.is_err() {
            let _ = unlinkat(folder, &name, AtFlags::empty());
        }
        Some(Kept {
            path: folder.path().join(name),
            copy: opened.ok()?,
            sha256,
        })
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

/// A copy that was made.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is; empty if it lives in memory.
    pub(super) path: PathBuf,
    /// It, opened for reading.
    pub(super) copy: OwnedFd,
    /// The sum of what was written.
    pub(super) sha256: Sha256,
}

/// At which end copying failed.
#[derive(Debug)]
enum CopyError {
    Read(io::Error),
    Written(io::Error),
}

impl CopyError {
    fn into_cause(self) -> io::Error {
        let (Self::Read(cause) | Self::Written(cause)) = self;
        cause
    }
}

/// What goes wrong at the system's hand while a copy is made is on the copy's side.
impl From<Errno> for CopyError {
    fn from(cause: Errno) -> Self {
        Self::Written(cause.into())
    }
}

/// A file name has 255 bytes at most.
fn name(stem: &str, sha256: Sha256, generation: u64) -> String {
    let stem: String = stem.chars().take(48).collect();
    format!("{stem}-{}-{generation}.so", &sha256.to_string()[..8])
}

fn write_copy(
    folder: &StateDir,
    stem: &str,
    original: &mut (impl Read + Seek),
    size: u64,
    generation: u64,
) -> Result<Kept, CopyError> {
    let unfinished = format!(".{generation}");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(folder, &unfinished, flags, MODE)?;
    let poured = pour(original, size, &mut File::from(file));
    // Its sum is a part of its name.
    let kept = poured.and_then(|sha256| {
        let name = name(stem, sha256, generation);
        renameat(folder, &unfinished, folder, &name)?;
        let copy = open_copy(folder, &name).inspect_err(|_| {
            let _ = unlinkat(folder, &name, AtFlags::empty());
        })?;
        Ok(Kept {
            path: folder.path().join(name),
            copy,
            sha256,
        })
    });
    if kept.is_err() {
        let _ = unlinkat(folder, &unfinished, AtFlags::empty());
    }
    kept
}

/// Opens a copy for reading. The umask may have taken what the worker needs.
fn open_copy(folder: &StateDir, name: &str) -> Result<OwnedFd, Errno> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(folder, name, read, Mode::empty())?;
    fchmod(&copy, MODE)?;
    Ok(copy)
}

/// Gives an open file one more name. Fails across disks, for memory, and for what has no name any more.
pub(in crate::supervise) fn link(file: impl AsFd, folder: &StateDir, name: &str) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW)?)
}

fn sealed(name: &str, original: &mut (impl Read + Seek), size: u64) -> Result<Kept, CopyError> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    let sha256 = pour(original, size, &mut file)?;
    let copy = OwnedFd::from(file);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&copy, seals)?;
    Ok(Kept {
        path: PathBuf::new(),
        copy,
        sha256,
    })
}

/// Copies from the beginning, one byte more than there should be at most, and sums what it copies.
fn pour(from: &mut (impl Read + Seek), size: u64, to: &mut File) -> Result<Sha256, CopyError> {
    from.rewind().map_err(CopyError::Read)?;
    let mut from = from.take(size.saturating_add(1));
    let mut part = vec![0; PART];
    let mut hash = sha2::Sha256::new();
    loop {
        let read = match from.read(&mut part) {
            Ok(0) => return Ok(Sha256(hash.finalize().into())),
            Ok(read) => read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(CopyError::Read(cause)),
        };
        hash.update(&part[..read]);
        to.write_all(&part[..read]).map_err(CopyError::Written)?;
    }
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
