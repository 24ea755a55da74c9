//! Carries out what `reload` decides, and says what became of each library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::stager::StagerReport;
use super::{FolderError, Libraries, Offer, Scan, Supervisor, Timer};
use crate::supervise::control::message::ToWorker;
use crate::supervise::last_good::Seen;
use crate::supervise::reload::Step;
use crate::supervise::spawn::Worker;
use crate::supervise::staging::Outcome;
use crate::supervise::workshop::{Library, LoadedPlugin, Refusal};

/// How long SIGHUP makes the folder looked at with `hot_reload: false`: files settle, and the grace of a removed one
/// passes.
const LOOK: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Looks at the folder at once; or says why it does not.
    pub(super) fn rescan(&mut self) -> Result<(), String> {
        if let Some(until) = &mut self.libraries.looked_at_until {
            *until = Instant::now() + LOOK;
        }
        if let Some(watch) = &self.libraries.watch {
            watch.scan_now();
            return Ok(());
        }
        let (fault, hint) = ("there is no plugins folder", "set plugins.dir");
        tracing::warn!(hint, "{fault}");
        Err(format!("{fault}; {hint}"))
    }

    pub(super) fn scanned(&mut self, scan: Result<Scan, FolderError>) {
        self.miss_admin();
        if self.questions.scanned()
            && let Some(watch) = &self.libraries.watch
        {
            watch.scan_now();
        }
        let until = self.libraries.looked_at_until;
        if until.is_some_and(|until| Instant::now() > until) {
            return;
        }
        match scan {
            Ok(scan) => {
                if self.libraries.fault.take().is_some() {
                    tracing::info!("the plugins folder can be used again");
                }
                let steps = self.libraries.reload.scanned(Instant::now(), &scan.files);
                self.carry_out(steps);
                self.forget_good_once();
                let files = &scan.files;
                self.libraries
                    .refusals
                    .retain(|file, _| files.contains_key(file));
            }
            Err(fault) => {
                self.libraries.reload.scan_failed();
                if self.libraries.fault.as_ref() != Some(&fault) {
                    let still_serving = self.still_serving_all();
                    tracing::warn!(hint = fault.hint(), still_serving, "{fault}");
                    self.questions.fault(&fault.to_string());
                    self.libraries.fault = Some(fault);
                }
            }
        }
    }

    pub(super) fn staged(&mut self, StagerReport { file, outcome }: StagerReport) {
        match outcome {
            Outcome::Staged {
                library,
                fingerprint,
                lasting,
                copy,
            } => {
                self.libraries.refusals.remove(&file);
                if let Some(refusal) = self.libraries.quarantine.refusal(library.sha256) {
                    let remover = self.libraries.stager.remover();
                    remover.remove(&library, Some(copy));
                    let steps = self.libraries.reload.rejected(&file, Some(fingerprint));
                    self.log_refusal(&file, &refusal);
                    return self.carry_out(steps);
                }
                self.libraries.copies.insert(library.generation, copy);
                if let Some(seen) = Seen::now(fingerprint).filter(|_| lasting) {
                    self.libraries.seen.insert(library.generation, seen);
                }
                let steps = self.libraries.reload.staged(library, fingerprint);
                self.carry_out(steps);
            }
            Outcome::Unsettled => {
                self.libraries.reload.unsettled(&file);
                if let Some(watch) = &self.libraries.watch {
                    watch.stir();
                }
            }
            Outcome::Refused(fingerprint, refusal) => {
                let steps = self.libraries.reload.rejected(&file, fingerprint);
                self.log_refusal(&file, &refusal);
                self.carry_out(steps);
            }
        }
    }

    pub(super) fn loaded(&mut self, generation: u64, plugins: Vec<LoadedPlugin>) {
        if self.older_loaded(generation) {
            return;
        }
        if self.libraries.hung.contains(&generation) {
            // It serves in the worker after it was given up: the next worker does not have it.
            self.recycles.hung_starts += 1;
            return;
        }
        let reload = &mut self.libraries.reload;
        let Some(library) = reload.loading(generation).cloned() else {
            return;
        };
        let again = reload.serving(&library.file).is_some_and(|l| *l == library);
        let steps = reload.loaded(generation);
        if !again {
            self.note_good(&library, &plugins);
        }
        match again {
            true => tracing::debug!(generation, "loaded again: {}", library.file.display()),
            false => self.log_loaded(&library, &plugins),
        }
        let known = self.libraries.offers.get(&library.file);
        let known = known.filter(|offer| offer.generation == generation);
        let offer = Offer {
            generation,
            since: known.map_or_else(SystemTime::now, |offer| offer.since),
            plugins,
        };
        if !again && !self.libraries.recalled.contains_key(&generation) {
            self.libraries.refusals.remove(&library.file);
        }
        self.libraries.offers.insert(library.file.clone(), offer);
        if !again {
            self.load_in_next(&library);
            self.by_hand_loaded(&library.file);
        }
        self.note_served();
        self.carry_out(steps);
    }

    pub(super) fn refused(&mut self, generation: u64, refusal: &Refusal) {
        if self.older_refused(generation, refusal) {
            return;
        }
        let Some(library) = self.libraries.reload.loading(generation).cloned() else {
            return;
        };
        let steps = self.libraries.reload.refused(generation);
        if self.libraries.reload.serving(&library.file).is_none() {
            self.libraries.offers.remove(&library.file);
        }
        self.refuse(&library, refusal);
        self.carry_out(steps);
    }

    pub(super) fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Stage { file, generation } => self.libraries.stager.stage(file, generation),
                Step::Recall { file, generation } => self.recall(file, generation),
                Step::Probe(library) => self.probe(library),
                Step::Load(library) => self.load(library),
                Step::Unload(file) => {
                    tracing::info!("{} is gone: what it offered ends", file.display());
                    self.questions
                        .note(&format!("{} is gone: what it offered ends", file.display()));
                    self.libraries.offers.remove(&file);
                    self.note_served();
                    self.tell_all(&ToWorker::Unload(file));
                    self.forget_good();
                }
                Step::Withdraw(file) => self.withdrawn(file),
                Step::Discard(library) => self.discard(&library),
                Step::Retire(library) if self.worker.is_none() => self.discard(&library),
                Step::Retire(library) => self.libraries.retired.push(library),
                Step::Blame(library) => self.blame(&library),
            }
        }
    }

    fn withdrawn(&mut self, file: PathBuf) {
        let line = format!("{}: what it offered ends", file.display());
        tracing::warn!("{line}");
        self.questions.note(&line);
        self.libraries.offers.remove(&file);
        self.note_served();
        self.tell_all(&ToWorker::Unload(file));
    }

    /// Deletes the copies that only a worker that is gone had open. Those that confs stay on are for the next one too.
    pub(super) fn discard_retired(&mut self) {
        let needed = self.libraries.older_needed();
        let retired = std::mem::take(&mut self.libraries.retired);
        let (needed, gone): (Vec<_>, Vec<_>) =
            retired.into_iter().partition(|it| needed.contains(it));
        self.libraries.retired = needed;
        gone.iter().for_each(|library| self.discard(library));
    }

    pub(super) fn discard(&mut self, library: &Library) {
        let copy = self.libraries.copies.remove(&library.generation);
        self.libraries.seen.remove(&library.generation);
        self.libraries.recalled.remove(&library.generation);
        self.libraries.hung.remove(&library.generation);
        self.libraries.stager.remover().remove(library, copy);
    }

    pub(super) fn load(&self, library: Library) {
        if let Some(worker) = &self.worker {
            self.load_in(worker, library, ToWorker::Load);
        }
    }

    /// Tells a worker to load a copy, in one of the ways there are.
    pub(super) fn load_in(&self, worker: &Worker, library: Library, how: fn(Library) -> ToWorker) {
        let late = Timer::LoadIsLate {
            worker: worker.number,
            generation: library.generation,
        };
        match self.libraries.descriptor(&library) {
            Ok(copy) => {
                self.later(self.config.plugins.load_deadline, late);
                let descriptors = copy.into_iter().collect();
                worker.tell_with(how(library), Vec::new(), descriptors);
            }
            Err(cause) => {
                // Without a descriptor to spare nothing works; a new worker starts over.
                tracing::error!(cause = %cause, "cannot pass {} on", library.file.display());
                worker.kill();
            }
        }
    }

    /// The worker has not said in time what became of a library: it counts as refused. The thread that it holds goes with the
    /// worker, whose successor takes over as soon as it can.
    pub(super) fn load_is_late(&mut self, generation: u64) {
        if self.libraries.reload.loading(generation).is_none() {
            return;
        }
        let within = self.config.plugins.load_deadline;
        let refusal = Refusal {
            cause: format!(
                "it has not started in the worker within {within:?} (plugins.load_deadline)"
            ),
            hint: Some("do not wait in init_worker for what may never come".to_owned()),
        };
        self.libraries.hung.insert(generation);
        self.recycles.hung_starts += 1;
        self.refused(generation, &refusal);
    }

    fn blame(&mut self, library: &Library) {
        let file = &library.file;
        if self.libraries.reload.serving(file).is_none() {
            self.libraries.offers.remove(file);
        }
        let refusal = Refusal {
            cause: "the worker ended while it loaded it".to_owned(),
            hint: Some("correct the library; it is tried again when the file changes".to_owned()),
        };
        self.refuse(library, &refusal);
    }

    /// A build does not serve: that of the file, or an earlier one that was to take its place.
    pub(super) fn refuse(&mut self, library: &Library, refusal: &Refusal) {
        self.libraries.unusable.insert(library.sha256);
        if !self.libraries.recalled.contains_key(&library.generation) {
            return self.log_refusal(&library.file, refusal);
        }
        let Refusal { cause, hint } = refusal;
        let (sha256, file) = (library.sha256, library.file.display());
        tracing::warn!(cause, hint, %sha256, "an earlier build of {file} does not serve either");
        let fault = format!("an earlier build of {file} does not serve either: {cause}");
        self.questions.fault(&fault);
    }

    pub(super) fn log_refusal(&mut self, file: &Path, refusal: &Refusal) {
        let still_serving = self.still_serving(file);
        let done = if still_serving.is_some() {
            "replaced"
        } else {
            "loaded"
        };
        self.libraries
            .refusals
            .insert(file.to_owned(), refusal.clone());
        let Refusal { cause, hint } = refusal;
        let (file, hint) = (file.display(), hint.as_deref());
        tracing::warn!(cause, hint, still_serving, "{file} was not {done}");
        self.questions
            .fault(&format!("{file} was not {done}: {cause}"));
    }

    fn log_loaded(&mut self, library: &Library, plugins: &[LoadedPlugin]) {
        let file = library.file.display();
        let generation = library.generation;
        let names = names(plugins);
        let line = match self.libraries.recalled.contains_key(&generation) {
            true => {
                format!("{names} serves from its last good copy: generation {generation}, {file}")
            }
            false => format!("{names} serves: generation {generation}, {file}"),
        };
        let refusal = self.libraries.refusals.get(&library.file);
        match refusal.filter(|_| self.libraries.recalled.contains_key(&generation)) {
            Some(Refusal { cause, hint }) => {
                let sha256 = library.sha256;
                tracing::warn!(cause, hint, %sha256, "{line}");
            }
            None => tracing::info!("{line}"),
        }
        self.questions.note(&line);
    }

    /// Before it serves, a worker collects: nothing is decided yet.
    fn note_served(&mut self) {
        if self.worker.as_ref().is_some_and(|worker| worker.serving) {
            self.libraries.note_served();
        }
    }

    fn still_serving(&self, file: &Path) -> Option<String> {
        let offer = self.libraries.offers.get(file)?;
        let (names, generation) = (names(&offer.plugins), offer.generation);
        Some(format!("{names} (generation {generation})"))
    }

    fn still_serving_all(&self) -> Option<String> {
        let plugins = self.libraries.offers.values();
        let plugins: Vec<_> = plugins.map(|offer| names(&offer.plugins)).collect();
        (!plugins.is_empty()).then(|| plugins.join(", "))
    }
}

impl Libraries {
    /// Follows the worker's registry: who serves a plugin goes on as long as it offers it; otherwise the only one does.
    pub(super) fn note_served(&mut self) {
        let mut offered: BTreeMap<&str, Vec<&PathBuf>> = BTreeMap::new();
        for (file, offer) in &self.offers {
            for plugin in &offer.plugins {
                offered.entry(&plugin.name).or_default().push(file);
            }
        }
        self.served.retain(|name, served| {
            let files = offered.get(name.as_str());
            files.is_some_and(|files| files.iter().any(|file| *file == served))
        });
        for (name, files) in offered {
            if let [only] = files[..] {
                let served = self.served.entry(name.to_owned());
                served.or_insert_with(|| only.clone());
            }
        }
    }
}

fn names(plugins: &[LoadedPlugin]) -> String {
    let names = plugins
        .iter()
        .map(|plugin| format!("{} {}", plugin.name, plugin.version));
    names.collect::<Vec<_>>().join(", ")
}
