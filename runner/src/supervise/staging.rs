//! Private copies of libraries: checked, hashed, under a name that was never used before. Never opens one as code.
//!
//! The watched file is never opened by a worker: `cp` over a mapped library kills the process, and the C library takes
//! the same path for the same object.

mod place;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, fstat, open};

use self::place::Kept;
pub use self::place::Place;
pub(super) use self::place::link;
use super::fingerprint::{Fingerprint, Trust, is_file};
use super::last_good::Known;
use super::workshop::{Library, Refusal, Sha256};
use crate::plugins::elf::{self, ElfError};

/// A truncated file that was written this recently is still being copied.
const STILL_WRITTEN: Duration = Duration::from_secs(2);

/// Makes copies.
#[derive(Debug)]
pub struct Staging {
    /// Where they go.
    pub place: Place,
    /// Whose files are taken.
    pub trust: Trust,
    /// `plugins.allow`: only these sums are taken, if there is a list.
    pub allow: Option<Vec<String>>,
    /// What earlier runners kept.
    pub(super) known: Known,
    /// The sums of what was made ready so far.
    pub(super) seen: Mutex<HashSet<Sha256>>,
}

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// There is a copy of it in this state.
    Staged {
        library: Library,
        fingerprint: Fingerprint,
        /// Whether the file has this content as long as it is in this state.
        lasting: bool,
        /// The copy, opened. `library.path` is empty if it lives in private memory.
        copy: OwnedFd,
    },
    /// It is being written, or gone again.
    Unsettled,
    /// It cannot be loaded in this state, if there is one.
    Refused(Option<Fingerprint>, Refusal),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(None, refusal)
    }
}

impl Staging {
    /// Checks and copies a file. Reads the whole file: not for the main thread.
    pub fn stage(&self, path: &Path, generation: u64) -> Outcome {
        if path.to_str().is_none() {
            return refusal("its name is not valid UTF-8", Some("rename the file")).into();
        }
        // NONBLOCK, so that a pipe of that name does not stop us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match open(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(rustix::io::Errno::NOENT) => return Outcome::Unsettled,
            Err(cause) => {
                let hint = "make it readable for the runner's user";
                return refusal(&format!("it cannot be opened: {cause}"), Some(hint)).into();
            }
        };
        match self.copy(path, file, generation) {
            Ok(outcome) => outcome,
            Err(cause) => refusal(&format!("it cannot be copied: {cause}"), None).into(),
        }
    }

    fn copy(&self, path: &Path, file: File, generation: u64) -> io::Result<Outcome> {
        let stat = fstat(&file)?;
        let fingerprint = Fingerprint::of(&stat);
        let refused = |refusal| Ok(Outcome::Refused(Some(fingerprint), refusal));
        if !is_file(&stat) {
            return Ok(Outcome::Unsettled);
        }
        if let Some(cause) = self.trust.fault(&stat) {
            return refused(refusal(&cause, Some(Trust::HINT)));
        }
        let lasting = !fingerprint.may_hide_a_change(SystemTime::now());
        match elf::check(&elf::reader(&file)) {
            Err(ElfError::Truncated { .. })
                if fingerprint.written_within(STILL_WRITTEN, SystemTime::now()) =>
            {
                return Ok(Outcome::Unsettled);
            }
            Err(cause) => return refused(refusal(&cause.to_string(), hint(&cause))),
            Ok(()) => {}
        }
        let (library, copy) = match self.linked(path, fingerprint, generation) {
            Some(linked) => linked,
            None => self.keep(path, &mut &file, fingerprint.size, generation)?,
        };
        let outcome = match self.fault(&file, fingerprint, library.sha256, &copy)? {
            Fault::None => Outcome::Staged {
                library,
                fingerprint,
                lasting,
                copy,
            },
            Fault::Changed => {
                self.place.discard(&library);
                Outcome::Unsettled
            }
            Fault::Forbidden(cause) => {
                self.place.discard(&library);
                return refused(cause);
            }
        };
        Ok(outcome)
    }

    /// What earlier runners kept of this file in this very state: neither read nor copied again. Once for each content, as
    /// the C library takes two names of one file for one library.
    fn linked(
        &self,
        path: &Path,
        fingerprint: Fingerprint,
        generation: u64,
    ) -> Option<(Library, OwnedFd)> {
        let (sha256, kept) = self.known.find(path, fingerprint)?;
        if !self.is_new(sha256) {
            return None;
        }
        let kept = self.place.link(path, &kept, sha256, generation)?;
        Some(library(path, kept, generation))
    }

    /// Whether this content is seen for the first time.
    fn is_new(&self, sha256: Sha256) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(sha256)
    }

    /// Why a copy that was made is not used.
    fn fault(
        &self,
        file: &File,
        before: Fingerprint,
        sha256: Sha256,
        copy: &OwnedFd,
    ) -> io::Result<Fault> {
        let copy = File::from(copy.try_clone()?);
        let whole =
            copy.metadata()?.len() == before.size && elf::check(&elf::reader(&copy)).is_ok();
        if !whole || Fingerprint::of(&fstat(file.as_fd())?) != before {
            return Ok(Fault::Changed);
        }
        Ok(self.forbidden(sha256).map_or(Fault::None, Fault::Forbidden))
    }

    /// Makes a copy ready of what served for a file earlier. Writes the whole of it: not for the main thread.
    ///
    /// # Errors
    /// It must not serve any more, or there is no room for it.
    pub(super) fn recall(
        &self,
        file: &Path,
        bytes: &[u8],
        sha256: Sha256,
        generation: u64,
    ) -> io::Result<(Library, OwnedFd)> {
        if let Some(refusal) = self.forbidden(sha256) {
            return Err(io::Error::other(refusal.cause));
        }
        elf::check(bytes).map_err(|cause| io::Error::other(cause.to_string()))?;
        self.keep(
            file,
            &mut io::Cursor::new(bytes),
            bytes.len() as u64,
            generation,
        )
    }

    fn keep(
        &self,
        path: &Path,
        original: &mut (impl Read + Seek),
        size: u64,
        generation: u64,
    ) -> io::Result<(Library, OwnedFd)> {
        let kept = self.place.keep(path, original, size, generation)?;
        self.is_new(kept.sha256);
        Ok(library(path, kept, generation))
    }

    fn forbidden(&self, sha256: Sha256) -> Option<Refusal> {
        let allow = self.allow.as_ref()?;
        let sum = sha256.to_string();
        let hint = "add the sum to plugins.allow if the file is trusted";
        (!allow.contains(&sum)).then(|| {
            let cause = format!("its sha256 {sum} is not in plugins.allow");
            refusal(&cause, Some(hint))
        })
    }
}

/// What is wrong with a copy.
enum Fault {
    None,
    /// The file was written while it was read.
    Changed,
    Forbidden(Refusal),
}

fn library(file: &Path, kept: Kept, generation: u64) -> (Library, OwnedFd) {
    let library = Library {
        generation,
        file: file.to_owned(),
        path: kept.path,
        sha256: kept.sha256,
    };
    (library, kept.copy)
}

fn refusal(cause: &str, hint: Option<&str>) -> Refusal {
    Refusal {
        cause: cause.to_owned(),
        hint: hint.map(str::to_owned),
    }
}

fn hint(cause: &ElfError) -> Option<&'static str> {
    match cause {
        ElfError::Truncated { .. } | ElfError::Damaged(_) => Some(
            "copy it again: write it elsewhere on the same disk, then rename it into the folder",
        ),
        ElfError::Machine { .. } => Some("build it for this machine"),
        ElfError::NotElf | ElfError::NotLibrary(_) => {
            Some("lay a library built as cdylib there, or remove the file")
        }
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
