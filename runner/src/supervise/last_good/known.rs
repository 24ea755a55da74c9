//! Which content a file had when an earlier runner copied it: a file in the same state has it still, so that a start need
//! not read and copy all libraries again. Believes nothing across a boot of the machine.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Index, Store};
use crate::supervise::fingerprint::Fingerprint;
use crate::supervise::workshop::Sha256;

/// The states of a file and of the copy that was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::supervise) struct Seen {
    /// Which boot of the machine it was: a crash of it may lose what was written last, and keep the times.
    boot: String,
    file: Fingerprint,
    copy: Option<Fingerprint>,
}

impl Seen {
    /// The file was copied in this state.
    pub(in crate::supervise) fn now(file: Fingerprint) -> Option<Self> {
        Some(Self {
            boot: boot()?.to_owned(),
            file,
            copy: None,
        })
    }

    /// The copy is kept in this state.
    pub(super) fn kept(&mut self, copy: Option<Fingerprint>) {
        self.copy = copy;
    }
}

/// What is known of files; nothing by default.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Known {
    by_file: HashMap<PathBuf, (Sha256, Seen)>,
    store: Option<Store>,
}

impl Known {
    pub(super) fn of(index: &Index, store: Option<Store>) -> Self {
        let newest = index.iter().filter_map(|(file, copies)| {
            let good = copies.first()?;
            let seen = good.seen.clone()?;
            (boot() == Some(&seen.boot)).then(|| (file.clone(), (good.sha256, seen)))
        });
        let by_file = newest.collect();
        Self { by_file, store }
    }

    /// The content of a file in this state, and the copy of it.
    pub(in crate::supervise) fn find(
        &self,
        path: &Path,
        now: Fingerprint,
    ) -> Option<(Sha256, File)> {
        let (sha256, seen) = self.by_file.get(path)?;
        if seen.file != now {
            return None;
        }
        let copy = self.store.as_ref()?.open_copy(*sha256).ok()?;
        let state = Fingerprint::of(&rustix::fs::fstat(&copy).ok()?);
        // Each further name of it changes when its inode was changed, and nothing else.
        let same = seen.copy.is_some_and(|kept| kept.is_same_content(&state));
        same.then_some((*sha256, copy))
    }
}

/// Which boot of the machine this is, if it says so.
fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let boot = BOOT.get_or_init(|| read().map(|text| text.trim().to_owned()));
    boot.as_deref().filter(|boot| !boot.is_empty())
}
