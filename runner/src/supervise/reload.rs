//! Which library is to be copied, loaded or ended, and when. Pure: what happened goes in, what to do comes out; no
//! file is touched here.
//!
//! A file that failed is not tried again until it changes. What serves goes on until its successor serves.

mod file;
mod recall;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub use self::file::FileState;
use self::file::{File, Loading};
use super::fingerprint::Fingerprint;
use super::workshop::Library;

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Check the file and copy it; answer with `staged`, `unsettled` or `rejected`.
    Stage { file: PathBuf, generation: u64 },
    /// Make a copy of the best build that served for this file earlier; answer with `recalled` or `not_recalled`.
    Recall { file: PathBuf, generation: u64 },
    /// Let a probe examine it; answer with `passed`, `failed` or `unknown`.
    Probe(Library),
    /// Tell the worker to load it; answer with `loaded` or `refused`.
    Load(Library),
    /// Tell the worker that the file is gone.
    Unload(PathBuf),
    /// Tell the worker that what the file offered ends, although it is there.
    Withdraw(PathBuf),
    /// Delete the copy: no worker has seen it.
    Discard(Library),
    /// Delete the copy when this worker has ended.
    Retire(Library),
    /// Say that the worker ended while it loaded this, so that it is not tried again.
    Blame(Library),
}

/// Of what a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// Loading this generation.
    Load(u64),
    /// Not of loading anything.
    Nobody,
    /// Not known: what it was loading may be innocent once, and twice.
    Unknown,
}

/// All files of the folder.
#[derive(Debug, Default)]
pub struct Reload {
    files: BTreeMap<PathBuf, File>,
    /// Generations sent to the worker and not answered, oldest first: it loads them in this order.
    in_flight: VecDeque<u64>,
    last_generation: u64,
    scanned: bool,
    worker: bool,
}

impl Reload {
    /// The folder holds these files now.
    pub fn scanned(&mut self, now: Instant, seen: &BTreeMap<PathBuf, Fingerprint>) -> Vec<Step> {
        self.scanned = true;
        for (path, fingerprint) in seen {
            let file = self.files.entry(path.clone()).or_default();
            if file.seen.replace(*fingerprint) != Some(*fingerprint) {
                file.start_over();
            }
            file.missing_since = None;
            file.retry_if_due(now);
        }
        let mut steps = Vec::new();
        self.files.retain(|path, file| {
            seen.contains_key(path) || file.keep_without(path, now, &mut steps)
        });
        steps.extend(self.stage_changed());
        steps
    }

    /// Somebody wants this file to be loaded again, changed or not. A scan has to follow.
    pub fn again(&mut self, file: &Path) {
        if let Some(file) = self.files.get_mut(file) {
            file.start_over();
            file.tried = None;
            file.again = true;
        }
    }

    /// The folder cannot be read: nothing changes, and nobody waits for it.
    pub fn scan_failed(&mut self) {
        self.scanned = true;
    }

    /// The file was copied in this state.
    pub fn staged(&mut self, library: Library, fingerprint: Fingerprint) -> Vec<Step> {
        let Some(file) = self.files.get_mut(&library.file) else {
            return vec![Step::Discard(library)];
        };
        file.staging = false;
        if !self.worker || file.loading.is_some() {
            return vec![Step::Discard(library)]; // its turn comes again
        }
        if file.tried != Some(fingerprint) && file.seen != Some(fingerprint) {
            file.start_over();
        }
        file.looked_at(fingerprint);
        if !std::mem::take(&mut file.again)
            && let Some(serving) = &file.serving
            && serving.sha256 == library.sha256
        {
            return vec![Step::Discard(library)];
        }
        file.probing = Some(library.clone());
        vec![Step::Probe(library)]
    }

    /// The probe found nothing against this generation.
    pub fn passed(&mut self, generation: u64) -> Vec<Step> {
        let worker = self.worker;
        let Some((file, library)) = self.probed(generation) else {
            return Vec::new();
        };
        if !file.recalling {
            file.forget_hangs();
        }
        if !worker || file.loading.is_some() {
            if file.end_recall() {
                return vec![Step::Discard(library)]; // recalled again for the next worker
            }
            file.tried = None; // staged again for the next worker; the verdict is known then
            file.again = file
                .serving
                .as_ref()
                .is_some_and(|serving| serving.sha256 == library.sha256);
            return vec![Step::Discard(library)];
        }
        file.loading = Some(Loading {
            library: library.clone(),
            fresh: true,
        });
        self.in_flight.push_back(generation);
        vec![Step::Load(library)]
    }

    /// The probe says that this generation must not be loaded.
    pub fn failed(&mut self, generation: u64) -> Vec<Step> {
        let Some((file, library)) = self.probed(generation) else {
            return Vec::new();
        };
        if !file.end_recall() {
            file.forget_hangs();
        }
        let mut steps = vec![Step::Discard(library)];
        steps.extend(self.stage_changed());
        steps
    }

    /// The probe of this generation did not come back: it is tried again later.
    pub fn unknown(&mut self, now: Instant, generation: u64) -> Vec<Step> {
        let Some((file, library)) = self.probed(generation) else {
            return Vec::new();
        };
        if !file.end_recall() {
            file.hung(now);
        }
        let mut steps = vec![Step::Discard(library)];
        steps.extend(self.stage_changed());
        steps
    }

    /// The file is being written, or is gone: the next scan decides.
    pub fn unsettled(&mut self, file: &Path) {
        if let Some(file) = self.files.get_mut(file) {
            file.staging = false;
        }
    }

    /// The file in this state can never be loaded.
    pub fn rejected(&mut self, file: &Path, fingerprint: Option<Fingerprint>) -> Vec<Step> {
        if let Some(file) = self.files.get_mut(file) {
            file.staging = false;
            match fingerprint {
                Some(fingerprint) => file.looked_at(fingerprint),
                None => file.tried = file.seen,
            }
        }
        self.stage_changed()
    }

    /// The worker serves this generation.
    pub fn loaded(&mut self, generation: u64) -> Vec<Step> {
        let Some((file, loading)) = self.answered(generation) else {
            return Vec::new();
        };
        file.deaths = 0;
        file.end_recall();
        let mut steps = Vec::new();
        if loading.fresh {
            steps.extend(file.succeed(loading.library));
        }
        steps.extend(self.stage_changed());
        steps
    }

    /// The worker refused this generation.
    pub fn refused(&mut self, generation: u64) -> Vec<Step> {
        let Some((file, loading)) = self.answered(generation) else {
            return Vec::new();
        };
        file.end_recall();
        // What was withdrawn while a new worker loaded it again has been retired then.
        let serves = loading.fresh || file.serving.take().is_some();
        let mut steps: Vec<_> = serves
            .then_some(Step::Retire(loading.library))
            .into_iter()
            .collect();
        steps.extend(self.stage_changed());
        steps
    }

    /// A new worker takes orders: it gets everything that served.
    pub fn worker_started(&mut self) -> Vec<Step> {
        self.worker = true;
        let mut steps = Vec::new();
        for file in self.files.values_mut() {
            let Some(library) = file.serving.clone() else {
                continue;
            };
            self.in_flight.push_back(library.generation);
            steps.push(Step::Load(library.clone()));
            file.loading = Some(Loading {
                library,
                fresh: false,
            });
        }
        steps.extend(self.stage_changed());
        steps
    }

    /// The worker ended. What is blamed while it is loaded is not tried again; what else was being loaded is.
    pub fn worker_ended(&mut self, suspect: Suspect) -> Vec<Step> {
        self.worker = false;
        let first = self.in_flight.front().copied();
        self.in_flight.clear();
        let (blamed, suspected) = match suspect {
            Suspect::Load(generation) => (Some(generation), None),
            Suspect::Nobody => (None, None),
            Suspect::Unknown => (None, first),
        };
        self.files
            .values_mut()
            .flat_map(|file| file.worker_ended(blamed, suspected))
            .collect()
    }

    /// The build of this generation must not serve any more; to be called while there is no worker. What served before it
    /// takes over. A change of the file ends that.
    pub fn hold(&mut self, generation: u64) -> Vec<Step> {
        let serves = |file: &&mut File| {
            let serving = file.serving.as_ref();
            serving.is_some_and(|library| library.generation == generation)
        };
        let file = self.files.values_mut().find(serves);
        file.and_then(File::fall_back).into_iter().collect()
    }

    /// Whether calls need not wait: everything that lies in the folder serves, if in an earlier version, or does not for
    /// now.
    pub fn is_settled(&self) -> bool {
        self.scanned && self.worker && self.files.values().all(File::is_settled)
    }

    /// Whether there is nothing left to do until something changes.
    pub fn is_idle(&self) -> bool {
        let idle = |file: &File| !file.is_busy() && !file.is_changed();
        self.scanned && self.worker && self.files.values().all(idle)
    }

    /// All files that are or were in the folder.
    pub fn files(&self) -> impl Iterator<Item = (&Path, FileState<'_>)> {
        self.files
            .iter()
            .map(|(path, file)| (path.as_path(), file.state()))
    }

    /// Whether a new worker has all that served in the one before it.
    pub fn is_as_before(&self) -> bool {
        let again = |file: &File| file.loading.as_ref().is_some_and(|loading| !loading.fresh);
        self.worker && !self.files.values().any(again)
    }

    /// All that the worker was told to load and has not answered, oldest first.
    pub fn all_loading(&self) -> Vec<Library> {
        let numbers = self.in_flight.iter();
        let all = numbers.filter_map(|generation| self.loading(*generation));
        all.cloned().collect()
    }

    /// What this file serves with.
    pub fn serving(&self, file: &Path) -> Option<&Library> {
        self.files.get(file)?.serving.as_ref()
    }

    /// What each generation in a probe is, and how many probes of it in a row did not come back.
    pub fn probing(&self, generation: u64) -> Option<(&Library, u32)> {
        let mut probing = self
            .files
            .values()
            .filter_map(|file| Some((file.probing.as_ref()?, file.hangs)));
        probing.find(|(library, _)| library.generation == generation)
    }

    /// What each generation in flight is.
    pub fn loading(&self, generation: u64) -> Option<&Library> {
        self.files
            .values()
            .filter_map(|file| file.loading.as_ref())
            .map(|loading| &loading.library)
            .find(|library| library.generation == generation)
    }

    fn probed(&mut self, generation: u64) -> Option<(&mut File, Library)> {
        let is_it = |library: &Library| library.generation == generation;
        let mut files = self.files.values_mut();
        let file = files.find(|file| file.probing.as_ref().is_some_and(is_it))?;
        let library = file.probing.take()?;
        Some((file, library))
    }

    fn answered(&mut self, generation: u64) -> Option<(&mut File, Loading)> {
        self.in_flight.retain(|other| *other != generation);
        let file = self.files.values_mut().find(|file| {
            let loading = file.loading.as_ref();
            loading.is_some_and(|loading| loading.library.generation == generation)
        })?;
        let loading = file.loading.take()?;
        Some((file, loading))
    }

    fn stage_changed(&mut self) -> Vec<Step> {
        if !self.worker {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let mut lacking = Vec::new();
        for (path, file) in &mut self.files {
            if file.is_busy() {
                continue;
            }
            if file.is_changed() {
                file.staging = true;
                self.last_generation += 1;
                steps.push(Step::Stage {
                    file: path.clone(),
                    generation: self.last_generation,
                });
            } else if file.lacks_good() {
                lacking.push(path.clone());
            }
        }
        steps.extend(lacking.iter().map(|file| self.recall(file)));
        steps
    }
}

#[cfg(test)]
mod tests;
