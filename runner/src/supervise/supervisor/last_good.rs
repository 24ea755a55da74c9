//! Lets what served earlier serve again, where a file is bad or its build must not serve.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::stager::RecallReport;
use super::{Libraries, Supervisor};
use crate::supervise::workshop::{Library, LoadedPlugin, Sha256};

/// A file that is not in the folder this long after the start is gone.
const ABSENT: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Asks for a copy of the best build that may serve for this file.
    pub(super) fn recall(&mut self, file: PathBuf, generation: u64) {
        let Some(sha256) = self.libraries.best_for(&file) else {
            return self.not_recalled(&file);
        };
        let copy = self.libraries.previous_copy(&file, sha256);
        let stager = &self.libraries.stager;
        stager.recall(file, sha256, generation, copy);
    }

    pub(super) fn recalled(&mut self, report: RecallReport) {
        let RecallReport {
            file,
            generation,
            sha256,
            outcome,
        } = report;
        match outcome {
            Ok((library, copy)) => {
                self.libraries.copies.insert(generation, copy);
                let good = self.libraries.good.of_file(&file).iter();
                let mut good = good.filter(|good| good.sha256 == sha256);
                let served = good.next().map(|good| good.served);
                self.libraries.recalled.insert(generation, served);
                let steps = self.libraries.reload.recalled(library);
                self.carry_out(steps);
            }
            Err(cause) => {
                tracing::warn!(
                    cause = %cause,
                    %sha256,
                    "the last good copy of {} cannot be used",
                    file.display()
                );
                self.libraries.unusable.insert(sha256);
                self.recall(file, generation);
            }
        }
    }

    /// There is nothing left to try.
    fn not_recalled(&mut self, file: &Path) {
        let steps = self.libraries.reload.not_recalled(file);
        self.carry_out(steps);
        self.nothing_before(file);
    }

    /// A build serves that was not loaded in an earlier worker: it is a last good one from now on.
    pub(super) fn note_good(&mut self, library: &Library, plugins: &[LoadedPlugin]) {
        let Libraries {
            good,
            quarantine,
            copies,
            stager,
            unusable,
            seen,
            ..
        } = &mut self.libraries;
        unusable.remove(&library.sha256);
        let may_go = |sha256| quarantine.refusal(sha256).is_some();
        let seen = seen.get(&library.generation).cloned();
        let change = good.served(&library.file, library.sha256, plugins, seen, may_go);
        let copy = copies.get(&library.generation);
        let copy = copy.and_then(|copy| copy.try_clone().ok());
        if let Some(change) = change {
            stager.keep(change, copy);
        }
    }

    /// Files that went while no runner ran need no copies either: the next looks at the folder have not seen them.
    pub(super) fn forget_good_once(&mut self) {
        if !self.libraries.forgot && self.since.instant.elapsed() > ABSENT {
            self.libraries.forgot = true;
            self.forget_good();
        }
    }

    /// Files that are gone need no copies any more.
    pub(super) fn forget_good(&mut self) {
        let Libraries {
            good,
            reload,
            stager,
            ..
        } = &mut self.libraries;
        let Some(folder) = &self.config.plugins.dir else {
            return;
        };
        let is_there = |file: &Path| reload.files().any(|(known, _)| known == file);
        for change in good.forget(folder, is_there) {
            stager.keep(change, None);
        }
    }
}

impl Libraries {
    /// The newest build that has served for a file, does not serve now, and is not known to be bad.
    pub(super) fn best_for(&self, file: &Path) -> Option<Sha256> {
        let serving = self.reload.serving(file).map(|library| library.sha256);
        let previous = self.reload.previous_of(file).map(|library| library.sha256);
        let kept = self.good.of_file(file).iter().map(|good| good.sha256);
        let mut all = previous.into_iter().chain(kept);
        all.find(|sha256| {
            serving != Some(*sha256)
                && !self.unusable.contains(sha256)
                && self.quarantine.refusal(*sha256).is_none()
        })
    }

    /// The copy of what served before in this runner: the folder of copies may not be there.
    fn previous_copy(&self, file: &Path, sha256: Sha256) -> Option<OwnedFd> {
        let previous = self.reload.previous_of(file)?;
        let copy = self.copies.get(&previous.generation)?;
        (previous.sha256 == sha256).then(|| copy.try_clone().ok())?
    }

    /// What goes to a process with an order to open a copy: nothing where its path leads to it.
    pub(super) fn descriptor(&self, library: &Library) -> std::io::Result<Option<OwnedFd>> {
        if library.path.exists() {
            return Ok(None);
        }
        let copy = self.copies.get(&library.generation);
        copy.map(OwnedFd::try_clone).transpose()
    }
}
