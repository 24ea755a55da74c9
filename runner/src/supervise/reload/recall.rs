//! When what served earlier serves again: where a file is bad, or its build must not serve. Pure.

use std::path::Path;

use super::file::File;
use super::{Reload, Step};
use crate::supervise::workshop::Library;

impl Reload {
    /// A last good copy was made ready.
    pub fn recalled(&mut self, library: Library) -> Vec<Step> {
        let worker = self.worker;
        let file = self.files.get_mut(&library.file);
        let waits = |file: &&mut File| {
            worker && file.recalling && file.probing.is_none() && file.loading.is_none()
        };
        let Some(file) = file.filter(waits) else {
            return vec![Step::Discard(library)];
        };
        file.probing = Some(library.clone());
        vec![Step::Probe(library)]
    }

    /// There is no last good copy of this file, or none that is left to be tried.
    pub fn not_recalled(&mut self, file: &Path) -> Vec<Step> {
        if let Some(file) = self.files.get_mut(file)
            && file.probing.is_none()
            && file.loading.is_none()
        {
            file.end_recall();
            file.no_good = true;
        }
        self.stage_changed()
    }

    /// What served in this file before is to take the place of what serves; nothing happens while the file is being
    /// taken up.
    pub fn roll_back(&mut self, file: &Path) -> Vec<Step> {
        if let Some(state) = self.files.get_mut(file)
            && self.worker
            && state.seen.is_some()
            && state.serving.is_some()
            && !state.is_busy()
        {
            return vec![self.recall(file)];
        }
        Vec::new()
    }

    /// What this file serves with ends, although the file is there.
    pub fn withdraw(&mut self, file: &Path) -> Vec<Step> {
        let Some(state) = self.files.get_mut(file) else {
            return Vec::new();
        };
        state.no_good = true;
        let serving = state.serving.take().map(Step::Retire);
        let previous = state.previous.take().map(Step::Retire);
        let unload = serving.is_some().then(|| Step::Withdraw(file.to_owned()));
        unload.into_iter().chain(serving).chain(previous).collect()
    }

    /// Whether a last good copy is on its way where nothing serves.
    pub fn is_recalling(&self) -> bool {
        let mut files = self.files.values();
        files.any(|file| file.recalling && file.serving.is_none())
    }

    /// What served in each file before what serves in it, and takes over if that has to go.
    pub fn previous(&self) -> impl Iterator<Item = &Library> {
        let files = self.files.values();
        files.filter_map(|file| file.previous.as_ref())
    }

    /// What served in this file before what serves in it.
    pub fn previous_of(&self, file: &Path) -> Option<&Library> {
        self.files.get(file)?.previous.as_ref()
    }

    pub(super) fn recall(&mut self, file: &Path) -> Step {
        if let Some(file) = self.files.get_mut(file) {
            file.recalling = true;
            file.no_good = false;
        }
        self.last_generation += 1;
        Step::Recall {
            file: file.to_owned(),
            generation: self.last_generation,
        }
    }
}
