//! The last good copies: the builds of each file that have served, kept in `state.dir/good` for a start at which the file
//! is bad. This half knows which there are and is asked by the main loop; `store` reads and writes them.

mod known;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub(super) use self::known::{Known, Seen};
pub(super) use self::store::{Store, read_copy};
use super::state::StateDir;
use super::workshop::{LoadedPlugin, Sha256};

/// Copies kept of one file: what serves, and what takes over from it.
const KEPT: usize = 2;
/// Files of which copies are kept at most: those that served last.
const FILES: usize = 2_048;
/// A file that has not served for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(90 * 86_400);

/// Which copies there are.
#[derive(Debug)]
pub(super) struct LastGood {
    by_file: Index,
    /// Whether what is noted here outlives the process.
    stored: bool,
}

/// By file; the copy that served last comes first.
type Index = BTreeMap<PathBuf, Vec<Good>>;

/// A build that has served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Good {
    /// Its content, and the name of its copy.
    pub(super) sha256: Sha256,
    /// Its plugins, with their versions.
    pub(super) plugins: String,
    /// When it was loaded last, in seconds since 1970.
    pub(super) served: u64,
    /// The state of the file that it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Seen>,
}

/// What is to be written: the copies of one file are these from now on.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) file: PathBuf,
    pub(super) copies: Vec<Good>,
}

impl LastGood {
    /// Takes up what earlier runners left. Without a folder nothing is kept.
    pub(super) fn open(state: Option<&StateDir>) -> (Self, Option<Store>) {
        let Some(state) = state else {
            return (Self::of(Index::new(), false), None);
        };
        match Store::open(state) {
            Ok(store) => (Self::of(store.read_index(), true), Some(store)),
            Err(error) => {
                tracing::warn!(
                    hint = "mend state.dir",
                    "last good copies of libraries are not kept: {error}"
                );
                (Self::of(Index::new(), false), None)
            }
        }
    }

    fn of(by_file: Index, stored: bool) -> Self {
        Self { by_file, stored }
    }

    /// What is known of files without reading them.
    pub(super) fn known(&self, store: Option<&Store>) -> Known {
        Known::of(&self.by_file, store.and_then(Store::again))
    }

    /// The copies of a file, the best first.
    pub(super) fn of_file(&self, file: &Path) -> &[Good] {
        self.by_file.get(file).map_or(&[], Vec::as_slice)
    }

    /// A build serves. `may_go`: builds that are not worth a place, as they must not serve.
    pub(super) fn served(
        &mut self,
        file: &Path,
        sha256: Sha256,
        plugins: &[LoadedPlugin],
        seen: Option<Seen>,
        may_go: impl Fn(Sha256) -> bool,
    ) -> Option<Change> {
        let good = Good {
            sha256,
            plugins: names(plugins),
            served: unix_time(),
            seen,
        };
        let copies = self.by_file.entry(file.to_owned()).or_default();
        copies.retain(|other| other.sha256 != sha256 && !may_go(other.sha256));
        copies.insert(0, good);
        copies.truncate(KEPT);
        self.stored.then(|| Change {
            file: file.to_owned(),
            copies: copies.clone(),
        })
    }

    /// Files that are gone from a folder need no copies. `is_there`: those that are not gone.
    pub(super) fn forget(
        &mut self,
        folder: &Path,
        is_there: impl Fn(&Path) -> bool,
    ) -> Vec<Change> {
        let gone = |file: &&PathBuf| file.parent() == Some(folder) && !is_there(file);
        let gone: Vec<_> = self.by_file.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|file| drop(self.by_file.remove(file)));
        let changes = gone.into_iter().filter(|_| self.stored).map(|file| Change {
            file,
            copies: Vec::new(),
        });
        changes.collect()
    }
}

/// Takes a change up; bounds what is kept.
fn apply(index: &mut Index, change: Change, now: u64) {
    index.insert(change.file, change.copies);
    let served = |copies: &[Good]| copies.first().map_or(0, |good| good.served);
    index.retain(|_, copies| now.saturating_sub(served(copies)) < FORGOTTEN.as_secs());
    while index.len() > FILES {
        let oldest = index.iter().min_by_key(|(_, copies)| served(copies));
        let Some(oldest) = oldest.map(|(file, _)| file.clone()) else {
            return;
        };
        index.remove(&oldest);
    }
}

fn names(plugins: &[LoadedPlugin]) -> String {
    let names = plugins
        .iter()
        .map(|it| format!("{} {}", it.name, it.version));
    names.collect::<Vec<_>>().join(", ")
}

fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
#[path = "last_good_tests.rs"]
mod tests;
