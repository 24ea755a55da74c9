//! Carries out what `reload` decides, and says what became of each library.

use std::path::Path;
use std::time::{Duration, Instant};

use super::stager::StagerReport;
use super::{FolderError, Scan, Supervisor};
use crate::supervise::control::message::ToWorker;
use crate::supervise::reload::Step;
use crate::supervise::staging::Outcome;
use crate::supervise::workshop::{Library, LoadedPlugin, Refusal};

/// How long SIGHUP makes the folder looked at with `hot_reload: false`: files settle, and the grace of a removed one
/// passes.
const LOOK: Duration = Duration::from_secs(5);

impl Supervisor {
    pub(super) fn rescan(&mut self) {
        if let Some(until) = &mut self.libraries.looked_at_until {
            *until = Instant::now() + LOOK;
        }
        match &self.libraries.watch {
            Some(watch) => watch.stir(),
            None => tracing::warn!(hint = "set plugins.dir", "there is no plugins folder"),
        }
    }

    pub(super) fn scanned(&mut self, scan: Result<Scan, FolderError>) {
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
            }
            Err(fault) => {
                self.libraries.reload.scan_failed();
                if self.libraries.fault.as_ref() != Some(&fault) {
                    let still_serving = self.still_serving_all();
                    tracing::warn!(hint = fault.hint(), still_serving, "{fault}");
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
                memory,
            } => {
                if let Some(memory) = memory {
                    self.libraries.memory.insert(library.generation, memory);
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
                self.libraries.reload.rejected(&file, fingerprint);
                self.log_refusal(&file, &refusal);
            }
        }
    }

    pub(super) fn loaded(&mut self, generation: u64, plugins: Vec<LoadedPlugin>) {
        let reload = &mut self.libraries.reload;
        let Some(library) = reload.loading(generation).cloned() else {
            return;
        };
        let again = reload.serving(&library.file).is_some_and(|l| *l == library);
        let steps = reload.loaded(generation);
        match again {
            true => tracing::debug!(generation, "loaded again: {}", library.file.display()),
            false => log_loaded(&library, &plugins),
        }
        let offer = (generation, plugins);
        self.libraries.offers.insert(library.file, offer);
        self.carry_out(steps);
    }

    pub(super) fn refused(&mut self, generation: u64, refusal: &Refusal) {
        let Some(library) = self.libraries.reload.loading(generation).cloned() else {
            return;
        };
        let steps = self.libraries.reload.refused(generation);
        if self.libraries.reload.serving(&library.file).is_none() {
            self.libraries.offers.remove(&library.file);
        }
        self.log_refusal(&library.file, refusal);
        self.carry_out(steps);
    }

    pub(super) fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Stage { file, generation } => self.libraries.stager.stage(file, generation),
                Step::Load(library) => self.load(library),
                Step::Unload(file) => {
                    tracing::info!("{} is gone: what it offered ends", file.display());
                    self.libraries.offers.remove(&file);
                    self.tell(ToWorker::Unload(file));
                }
                Step::Discard(library) => self.discard(&library),
                Step::Retire(library) if self.worker.is_none() => self.discard(&library),
                Step::Retire(library) => self.libraries.retired.push(library),
                Step::Blame(library) => self.blame(&library),
            }
        }
    }

    /// Deletes the copies that only a worker that is gone had open.
    pub(super) fn discard_retired(&mut self) {
        for library in std::mem::take(&mut self.libraries.retired) {
            self.discard(&library);
        }
    }

    fn discard(&mut self, library: &Library) {
        self.libraries.memory.remove(&library.generation);
        self.libraries.stager.discard(library);
    }

    fn load(&self, library: Library) {
        let Some(worker) = &self.worker else { return };
        let memory = self.libraries.memory.get(&library.generation);
        let memory = memory.map(|memory| memory.try_clone()).transpose();
        match memory {
            Ok(memory) => {
                let descriptors = memory.into_iter().collect();
                worker.tell_with(ToWorker::Load(library), Vec::new(), descriptors);
            }
            Err(cause) => {
                // Without a descriptor to spare nothing works; a new worker starts over.
                tracing::error!(cause = %cause, "cannot pass {} on", library.file.display());
                worker.kill();
            }
        }
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
        self.log_refusal(file, &refusal);
    }

    fn log_refusal(&self, file: &Path, refusal: &Refusal) {
        let offer = self.libraries.offers.get(file);
        let still_serving = offer
            .map(|(generation, plugins)| format!("{} (generation {generation})", names(plugins)));
        let done = if offer.is_some() {
            "replaced"
        } else {
            "loaded"
        };
        let Refusal { cause, hint } = refusal;
        let (file, hint) = (file.display(), hint.as_deref());
        tracing::warn!(cause, hint, still_serving, "{file} was not {done}");
    }

    fn still_serving_all(&self) -> Option<String> {
        let plugins = self.libraries.offers.values();
        let plugins: Vec<_> = plugins.map(|(_, plugins)| names(plugins)).collect();
        (!plugins.is_empty()).then(|| plugins.join(", "))
    }
}

fn log_loaded(library: &Library, plugins: &[LoadedPlugin]) {
    let file = library.file.display();
    let generation = library.generation;
    tracing::info!("{} serves: generation {generation}, {file}", names(plugins));
}

fn names(plugins: &[LoadedPlugin]) -> String {
    let names = plugins
        .iter()
        .map(|plugin| format!("{} {}", plugin.name, plugin.version));
    names.collect::<Vec<_>>().join(", ")
}
