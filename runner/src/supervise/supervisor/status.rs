//! Puts together how the runner is, from what the supervisor knows and what the worker says. Changes nothing.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use plugin_api::{ABI_MAJOR, ABI_MINOR};

use super::{Offer, Supervisor};
use crate::supervise::admin::message::{
    Bindings, LibraryFile, Plugin, Recycles, Retained, Runner, Status, Tokens, Worker,
};
use crate::supervise::reload::FileState;
use crate::supervise::workshop::{GenerationReport, Library, LoadedPlugin, Report};
use crate::telemetry;

impl Supervisor {
    pub(super) fn status(&self, report: Option<Report>) -> Status {
        let (live, max) = self.tokens.count();
        let worker = self.worker.as_ref().map(|worker| Worker {
            pid: worker.pid(),
            number: worker.number,
            uptime_seconds: worker.lived().as_secs(),
            serving: worker.serving,
            answers: report.is_some(),
            connections: report.as_ref().map_or(0, |report| report.connections),
            stuck_loops: report.as_ref().map_or(0, |report| report.stuck_loops),
            memory_bytes: worker.memory(),
            log_lines_dropped: report.as_ref().map_or(0, |report| report.log_lines_dropped),
            log_calls_dropped: report.as_ref().map_or(0, |report| report.log_calls_dropped),
        });
        let leaving = self.recycles.leaving().map(|worker| Worker {
            pid: worker.pid(),
            number: worker.number,
            uptime_seconds: worker.lived().as_secs(),
            memory_bytes: worker.memory(),
            ..Worker::default()
        });
        Status {
            ready: worker.as_ref().is_some_and(|worker| worker.serving) && self.stopping.is_none(),
            runner: self.runner(),
            worker,
            leaving,
            recycles: Recycles {
                done: self.recycles.done,
                failed: self.recycles.failed,
                last: self.recycles.last.clone(),
            },
            tokens: Tokens { live, max },
            bindings: Bindings {
                serving: report.as_ref().map_or(0, |report| report.bindings),
                ..self.bindings.status()
            },
            plugins: self.plugins(&report.unwrap_or_default().generations),
            libraries: self.files(),
        }
    }

    fn runner(&self) -> Runner {
        Runner {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: format!("{ABI_MAJOR}.{ABI_MINOR}"),
            started_at: seconds(self.since.time),
            uptime_seconds: self.since.instant.elapsed().as_secs(),
            config: self.config.file.clone(),
            socket: self.socket.path().to_owned(),
            plugins_dir: self.config.plugins.dir.clone(),
            state_dir: self.config.state.dir.clone(),
            log_level: self.config.logging.level,
            log_lines_dropped: telemetry::dropped(),
        }
    }

    fn plugins(&self, generations: &[GenerationReport]) -> Vec<Plugin> {
        let by_number: HashMap<_, _> = generations.iter().map(|it| (it.generation, it)).collect();
        let mut plugins = Vec::new();
        for (file, offer) in &self.libraries.offers {
            let report = by_number.get(&offer.generation).copied();
            for offered in &offer.plugins {
                plugins.push(Plugin {
                    retained: retained(generations, offered, offer.generation),
                    ..self.plugin(file, offer, offered, report)
                });
            }
        }
        plugins.sort_by(|a, b| a.name.cmp(&b.name));
        plugins
    }

    fn plugin(
        &self,
        file: &Path,
        offer: &Offer,
        offered: &LoadedPlugin,
        report: Option<&GenerationReport>,
    ) -> Plugin {
        let library = self.libraries.reload.serving(file);
        let library = library.filter(|library| library.generation == offer.generation);
        let stands_by = report.is_some_and(|report| !report.serving);
        let report = report.cloned().unwrap_or_default();
        Plugin {
            name: offered.name.clone(),
            version: offered.version.clone(),
            priority: offered.priority,
            phases: offered.phases.clone(),
            generation: offer.generation,
            file: file.to_owned(),
            sha256: library.map_or(String::new(), |library| library.sha256.to_string()),
            last_good: self.libraries.recalled.contains_key(&offer.generation),
            loaded_at: seconds(offer.since),
            state: if stands_by { "standing by" } else { "serving" }.to_owned(),
            confs: report.confs,
            calls: report.calls,
            errors: report.errors,
            panics: report.panics,
            last_error: report.last_error,
            retained: Retained::default(),
            described: report.described,
        }
    }

    fn files(&self) -> Vec<LibraryFile> {
        let files = self.libraries.reload.files().map(|(path, state)| {
            let refusal = self.libraries.refusals.get(path);
            let recalled = |it: &Library| self.libraries.recalled.get(&it.generation).copied();
            let recalled = state.serving.and_then(recalled);
            LibraryFile {
                file: path.to_owned(),
                state: match state_name(state, refusal.is_some()) {
                    "refused" if self.libraries.quarantine.holds(path) => "quarantined",
                    name => name,
                }
                .to_owned(),
                last_good: recalled.is_some(),
                last_good_served_at: recalled.flatten(),
                generation: state.serving.map(|library| library.generation),
                sha256: state.serving.map(|library| library.sha256.to_string()),
                cause: refusal.map(|refusal| refusal.cause.clone()),
                hint: refusal.and_then(|refusal| refusal.hint.clone()),
            }
        });
        files.collect()
    }
}

/// The earlier generations of a plugin.
fn retained(generations: &[GenerationReport], offered: &LoadedPlugin, newest: u64) -> Retained {
    let old = generations
        .iter()
        .filter(|it| it.plugin == offered.name && it.generation < newest);
    Retained {
        generations: old.clone().count(),
        serving_confs: old.clone().filter(|it| it.confs > 0).count(),
        memory_bytes: old.map(|it| it.memory).sum(),
    }
}

fn state_name(state: FileState<'_>, refused: bool) -> &'static str {
    match state {
        FileState {
            under_way: Some(doing),
            ..
        } => doing,
        FileState { present: false, .. } => "gone",
        _ if refused => "refused",
        FileState {
            serving: Some(_), ..
        } => "serving",
        _ => "refused",
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
