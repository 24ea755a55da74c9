//! Says whose code ended a worker.

use std::time::Instant;

use super::Supervisor;
use crate::plugins::blame::{Ending, Running};
use crate::protocol::message::PrepareConf;
use crate::supervise::reload::Step;
use crate::supervise::workshop::{Library, Refusal};

/// Author code that ran in a worker, in words.
struct Named {
    plugin: Option<String>,
    file: Option<String>,
    copy: Option<String>,
    sha256: Option<String>,
    route_key: Option<String>,
    doing: &'static str,
}

impl Supervisor {
    /// Logs whose code crashed or called `exit`; else what ran, if the end came from outside.
    pub(super) fn log_culprit(&self, ending: &Ending) {
        if let Some(culprit) = ending.culprit {
            let named = self.named(culprit.running);
            let did = if culprit.exited {
                "called exit"
            } else {
                "crashed"
            };
            let plugin = named.plugin.as_deref();
            tracing::error!(
                plugin,
                generation = culprit.running.generation,
                phase = named.doing,
                route_key = named.route_key,
                library = named.file,
                copy = named.copy,
                sha256 = named.sha256,
                "plugin {} {did} and ended the worker",
                plugin.unwrap_or("unknown")
            );
            return;
        }
        for running in &ending.running {
            let named = self.named(*running);
            tracing::warn!(
                plugin = named.plugin,
                generation = running.generation,
                phase = named.doing,
                route_key = named.route_key,
                "it ran when the worker ended"
            );
        }
    }

    /// Counts a crash of a build, and holds the build if it was one too many. While there is no worker.
    pub(super) fn count_crash(&mut self, guilty: &Library) -> Vec<Step> {
        let quarantine = &mut self.libraries.quarantine;
        let Some(cause) = quarantine.crashed(guilty.sha256, Instant::now()) else {
            return Vec::new();
        };
        let offer = self.libraries.offers.get(&guilty.file);
        let plugins = offer.map_or(Vec::new(), |offer| {
            let names = offer.plugins.iter().map(|plugin| plugin.name.clone());
            names.collect()
        });
        quarantine.hold(guilty.sha256, &guilty.file, plugins, cause);
        self.hold(guilty)
    }

    /// Lets what served before a build take over, if that may.
    pub(super) fn hold(&mut self, guilty: &Library) -> Vec<Step> {
        let file = &guilty.file;
        let reload = &mut self.libraries.reload;
        let mut steps = reload.hold(guilty.generation);
        while let Some(next) = reload.serving(file).cloned()
            && self.libraries.quarantine.refusal(next.sha256).is_some()
        {
            steps.extend(reload.hold(next.generation));
        }
        let refusal = self.libraries.quarantine.refusal(guilty.sha256);
        let refusal = refusal.unwrap_or_default();
        let successor = reload.serving(file);
        let still_serving = successor.map(|library| format!("generation {}", library.generation));
        let Refusal { cause, hint } = &refusal;
        tracing::error!(
            generation = guilty.generation,
            sha256 = %guilty.sha256,
            cause,
            hint,
            still_serving,
            "{} is not loaded any more",
            file.display()
        );
        if successor.is_none() {
            self.libraries.offers.remove(file);
        }
        self.libraries.refusals.insert(file.clone(), refusal);
        steps
    }

    fn named(&self, running: Running) -> Named {
        let library = self.library_of(running.generation);
        Named {
            plugin: library.and_then(|library| self.plugin_in(library)),
            file: library.map(|library| library.file.display().to_string()),
            copy: library.map(|library| library.path.display().to_string()),
            sha256: library.map(|library| library.sha256.to_string()),
            route_key: self.route_key(running.token),
            doing: running.doing(),
        }
    }

    /// What a generation was made of, if this worker had it.
    pub(super) fn library_of(&self, generation: u64) -> Option<&Library> {
        let reload = &self.libraries.reload;
        let serving = reload.files().filter_map(|(_, state)| state.serving);
        let older = self.libraries.retired.iter().chain(reload.previous());
        let mut all = serving.chain(older);
        let known = all.find(|library| library.generation == generation);
        known.or_else(|| reload.loading(generation))
    }

    fn plugin_in(&self, library: &Library) -> Option<String> {
        let offer = self.libraries.offers.get(&library.file)?;
        let names: Vec<_> = offer.plugins.iter().map(|it| it.name.as_str()).collect();
        Some(names.join(", "))
    }

    fn route_key(&self, token: u32) -> Option<String> {
        let payload = self.tokens.payload(token)?;
        let conf = PrepareConf::parse(payload).ok()?;
        Some(String::from_utf8_lossy(conf.key).into_owned())
    }
}
