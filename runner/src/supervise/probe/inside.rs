//! The inside of a probe: a generation that serves nobody.

use std::sync::Arc;
use std::sync::mpsc::channel;

use plugin_api::abi::ModuleRef;

use crate::config::Config;
use crate::plugins::generation::{Candidate, Generation};
use crate::plugins::instance::{Prepared, Purpose};
use crate::plugins::retire;
use crate::request::conf::Conf;
use crate::request::host;
use crate::supervise::fit;
use crate::supervise::workshop::{Examine, Library, LoadedPlugin, Refusal};

/// Makes the inside of a probe: see [`Examiner`](crate::supervise::workshop::Examiner).
pub fn inside(config: Config) -> Box<dyn Examine> {
    Box::new(Inside {
        config,
        candidate: None,
        module: None,
        generation: None,
        prepared: Vec::new(),
    })
}

struct Inside {
    config: Config,
    candidate: Option<Candidate>,
    module: Option<ModuleRef>,
    generation: Option<Arc<Generation>>,
    /// Kept, as a worker keeps them.
    prepared: Vec<Prepared>,
}

impl Examine for Inside {
    fn check(&mut self, library: &Library) -> Result<(), Refusal> {
        self.candidate = Some(fit::candidate(library, &self.config.plugins)?);
        Ok(())
    }

    fn open(&mut self) -> Result<(), Refusal> {
        let candidate = self.candidate.as_ref().ok_or_else(out_of_turn)?;
        self.module = Some(candidate.open()?);
        Ok(())
    }

    fn start(&mut self) -> Result<Vec<LoadedPlugin>, Refusal> {
        let candidate = self.candidate.take().ok_or_else(out_of_turn)?;
        let module = self.module.take().ok_or_else(out_of_turn)?;
        let (purpose, host) = (Purpose::Probe, host::host());
        let generation = Generation::start(candidate, module, purpose, &self.config, host)?;
        let offer = fit::offer(&generation);
        self.generation = Some(generation);
        Ok(vec![offer])
    }

    fn configure(&mut self, payload: &[u8]) -> Result<(), String> {
        let conf = Conf::read(payload).map_err(|error| error.to_string())?;
        let Some(generation) = &self.generation else {
            return Err(out_of_turn().cause);
        };
        for plugin in &conf.plugins {
            if plugin.name == generation.name() {
                let prepared = Prepared::new(generation, &plugin.value, &conf.route_key)?;
                self.prepared.push(prepared);
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.prepared.clear();
        self.generation = None;
        let (done, is_done) = channel::<()>();
        // Values are dropped on a thread, in order; the last conf hands in its instance, so the end comes after that.
        retire::later(move || retire::later(move || drop(done)));
        let _ = is_done.recv();
    }
}

fn out_of_turn() -> Refusal {
    Refusal {
        cause: "the probe was asked out of turn".to_owned(),
        hint: None,
    }
}
