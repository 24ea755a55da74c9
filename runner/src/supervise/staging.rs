//! Private copies of libraries: checked, hashed, under a name that was never used before. Never opens one as code.
//!
//! The watched file is never opened by a worker: `cp` over a mapped library kills the process, and the C library takes
//! the same path for the same object.

mod place;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags, fstat, open};
use sha2::Digest;

pub use self::place::Place;
use super::fingerprint::{Fingerprint, Trust, is_file};
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
}

/// What became of a file.
#[derive(Debug)]
pub enum Outcome {
    /// There is a copy of it in this state.
    Staged {
        library: Library,
        fingerprint: Fingerprint,
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
        let Some(bytes) = read_unchanged(file, fingerprint)? else {
            return Ok(Outcome::Unsettled);
        };
        match elf::check(&bytes) {
            Err(ElfError::Truncated { .. })
                if fingerprint.written_within(STILL_WRITTEN, SystemTime::now()) =>
            {
                return Ok(Outcome::Unsettled);
            }
            Err(cause) => return refused(refusal(&cause.to_string(), hint(&cause))),
            Ok(()) => {}
        }
        let sha256 = Sha256(sha2::Sha256::digest(&bytes).into());
        if let Some(refusal) = self.forbidden(sha256) {
            return refused(refusal);
        }
        let (library, copy) = self.keep(path, &bytes, sha256, generation)?;
        Ok(Outcome::Staged {
            library,
            fingerprint,
            copy,
        })
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
        self.keep(file, bytes, sha256, generation)
    }

    fn keep(
        &self,
        file: &Path,
        bytes: &[u8],
        sha256: Sha256,
        generation: u64,
    ) -> io::Result<(Library, OwnedFd)> {
        let (path, copy) = self.place.keep(file, bytes, sha256, generation)?;
        let library = Library {
            generation,
            file: file.to_owned(),
            path,
            sha256,
        };
        Ok((library, copy))
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

/// The content, if nobody wrote the file while it was read.
fn read_unchanged(file: File, before: Fingerprint) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::with_capacity(before.size as usize + 1);
    (&file).take(before.size + 1).read_to_end(&mut bytes)?;
    let after = Fingerprint::of(&fstat(file.as_fd())?);
    Ok((before == after && bytes.len() as u64 == before.size).then_some(bytes))
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
