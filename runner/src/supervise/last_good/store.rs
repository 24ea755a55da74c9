//! The last good copies on disk: `state.dir/good/index`, and a file for each content, named by its hash. Reads whole
//! libraries: not for the main thread.
//!
//! Two runners may share the folder while the gateway reloads: each change is made under a lock on it, to what lies there.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FlockOperation, flock, fstat, renameat, unlinkat};
use rustix::io::Errno;
use sha2::Digest;

use super::{Change, Index, apply, unix_time};
use crate::supervise::fingerprint::Fingerprint;
use crate::supervise::staging;
use crate::supervise::state::{StateDir, StateError};
use crate::supervise::workshop::Sha256;

/// The folder in `state.dir`.
const FOLDER: &str = "good";
const INDEX: &str = "index";
/// Bytes of the index at most.
const LONGEST_INDEX: u64 = 4 << 20;
/// Bytes of a copy at most.
const LONGEST_COPY: u64 = 1 << 30;

/// How often, and how far apart, the lock is tried.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// The folder of copies.
#[derive(Debug)]
pub(in crate::supervise) struct Store {
    folder: StateDir,
}

impl Store {
    /// Opens the folder, and creates it if need be.
    ///
    /// # Errors
    /// It cannot be had, or is not ours alone to write.
    pub(super) fn open(state: &StateDir) -> Result<Self, StateError> {
        state.folder(FOLDER).map(|folder| Self { folder })
    }

    /// The same folder once more, for another thread.
    pub(super) fn again(&self) -> Option<Self> {
        let folder = StateDir::open(self.folder.path()).ok()?;
        Some(Self { folder })
    }

    /// Which copies there are. One that cannot be read is told, and is as if there were none.
    pub(super) fn read_index(&self) -> Index {
        let bytes = match self.folder.read(INDEX, LONGEST_INDEX) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Index::new(),
            Err(cause) => return self.unreadable(&cause),
        };
        serde_json::from_slice(&bytes).unwrap_or_else(|cause| self.unreadable(&cause.into()))
    }

    fn unreadable(&self, cause: &io::Error) -> Index {
        tracing::warn!(
            cause = %cause,
            hint = "nothing needs to be done: it is written anew as libraries are loaded",
            "{} cannot be read: there are no last good copies for now",
            self.folder.path().join(INDEX).display()
        );
        Index::new()
    }

    /// Makes changes; a descriptor is the first copy of its change. What nothing needs any more is deleted. Returns which
    /// were not made and why: there is no room, or the system refuses. What was kept before still is.
    pub(in crate::supervise) fn change(
        &self,
        changes: impl IntoIterator<Item = (Change, Option<OwnedFd>)>,
    ) -> Vec<(PathBuf, io::Error)> {
        let changes: Vec<_> = changes.into_iter().collect();
        let files: Vec<_> = changes.iter().map(|(it, _)| it.file.clone()).collect();
        let changed = self.lock().and_then(|()| {
            let changed = self.change_locked(changes);
            let _ = flock(&self.folder, FlockOperation::Unlock);
            changed
        });
        changed.unwrap_or_else(|cause| {
            let each = |file| (file, io::Error::new(cause.kind(), cause.to_string()));
            files.into_iter().map(each).collect()
        })
    }

    /// Another runner holds it for a moment only; one that was stopped in it must not hold us up.
    fn lock(&self) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            match flock(&self.folder, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::park_timeout(PAUSE),
                locked => return Ok(locked?),
            }
        }
        Err(io::Error::other("another runner holds the lock on it"))
    }

    fn change_locked(
        &self,
        changes: Vec<(Change, Option<OwnedFd>)>,
    ) -> io::Result<Vec<(PathBuf, io::Error)>> {
        let mut index = self.read_index();
        let mut failed = Vec::new();
        for (mut change, copy) in changes {
            match self.take(&mut change, copy) {
                Ok(()) => apply(&mut index, change, unix_time()),
                Err(cause) => failed.push((change.file, cause)),
            }
        }
        index.retain(|_, copies| !copies.is_empty());
        let bytes = serde_json::to_vec_pretty(&index)?;
        self.folder.write(INDEX, &bytes)?;
        self.delete_all_but(&index)?;
        Ok(failed)
    }

    /// Keeps the copy of a change: as one more name of it where it lies on the same disk, else by its content.
    fn take(&self, change: &mut Change, copy: Option<OwnedFd>) -> io::Result<()> {
        let (Some(newest), Some(copy)) = (change.copies.first_mut(), copy) else {
            return Ok(());
        };
        let name = newest.sha256.to_string();
        let opened = match self.link(&copy, &name) {
            Ok(()) => copy,
            Err(_) => {
                if self.read(newest.sha256).is_err() {
                    let bytes = read_copy(copy, newest.sha256)?;
                    self.folder.write(&name, &bytes)?;
                }
                self.open_copy(newest.sha256)?.into()
            }
        };
        if let Some(seen) = &mut newest.seen {
            seen.kept(fstat(&opened).ok().map(|stat| Fingerprint::of(&stat)));
        }
        Ok(())
    }

    /// Replaces what was kept under this name.
    fn link(&self, copy: &OwnedFd, name: &str) -> io::Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let _ = unlinkat(&self.folder, &temporary, AtFlags::empty());
        staging::link(copy, &self.folder, &temporary)?;
        let renamed = renameat(&self.folder, &temporary, &self.folder, name);
        // It is still there if both are names of one file already.
        let _ = unlinkat(&self.folder, &temporary, AtFlags::empty());
        Ok(renamed?)
    }

    /// A copy, opened. Its content is not looked at.
    pub(super) fn open_copy(&self, sha256: Sha256) -> io::Result<File> {
        self.folder.open_own_file(&sha256.to_string())
    }

    fn delete_all_but(&self, index: &Index) -> io::Result<()> {
        let needed = index.values().flatten().map(|good| good.sha256.to_string());
        let needed: BTreeSet<String> = needed.collect();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if ![INDEX, ".", ".."].contains(&name.as_ref()) && !needed.contains(name.as_ref()) {
                unlinkat(&self.folder, entry.file_name(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// The content of a copy.
    ///
    /// # Errors
    /// There is none, it is not ours, or it is not what was kept.
    pub(in crate::supervise) fn read(&self, sha256: Sha256) -> io::Result<Vec<u8>> {
        let bytes = self.folder.read(&sha256.to_string(), LONGEST_COPY)?;
        check(&bytes, sha256)?;
        Ok(bytes)
    }
}

fn check(bytes: &[u8], sha256: Sha256) -> io::Result<()> {
    let found = Sha256(sha2::Sha256::digest(bytes).into());
    match found == sha256 {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "its content has changed: it has the sum {found}"
        ))),
    }
}

/// The content of a copy that is open, wherever it was read to.
///
/// # Errors
/// It cannot be read, or has another content.
pub(in crate::supervise) fn read_copy(copy: OwnedFd, sha256: Sha256) -> io::Result<Vec<u8>> {
    let mut file = File::from(copy);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    check(&bytes, sha256)?;
    Ok(bytes)
}
