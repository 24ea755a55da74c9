//! The inside of a worker: plugins, chains and the socket, put together.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::serving::Serving;
use super::{memory, states, steps};
use crate::config::{Binding, Config, Level};
use crate::plugins::blame;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Purpose;
use crate::plugins::registry::Change;
use crate::request::assign::{AssignToken, Stay};
use crate::request::calls::Calls;
use crate::request::{host, log_phase};
use crate::rpc::server::{Server, Settings};
use crate::supervise::admin::message::LastError;
use crate::supervise::workshop::{
    Described, GenerationReport, HandedOver, Library, LoadedPlugin, Refusal, Report, Served,
    Sha256, Workshop,
};
use crate::supervise::{accounts, fit, heap};
use crate::telemetry;

/// Unused tokens are looked for at least this often.
const LONGEST_EXPIRY_TICK: Duration = Duration::from_secs(30);

/// Makes the inside of a worker: see [`Factory`](crate::supervise::workshop::Factory).
///
/// # Errors
/// Threads cannot be had, or a configured user does not exist.
pub fn inside(config: Config, tokens: Arc<dyn AssignToken>) -> anyhow::Result<Arc<dyn Workshop>> {
    let peers = config
        .socket
        .peers
        .iter()
        .map(|name| accounts::user(name).map(|user| user.uid));
    let settings = Settings {
        event_loops: config.worker.event_loops,
        threads: config.worker.threads,
        deadline: config.calls.deadline,
        allowed_peers: peers.collect::<Result<_, _>>()?,
        freed: heap::freed,
    };
    if config.steps {
        steps::tell();
    }
    // Several times in the life of an unused token, however short that is.
    let tick = (config.tokens.expire / 8).min(LONGEST_EXPIRY_TICK);
    let calls = Arc::new(Calls::new(config, tokens)?);
    expire_tokens(&calls, tick)?;
    Ok(Arc::new(Inside {
        calls,
        settings,
        serving: Arc::default(),
        loaded: Mutex::default(),
    }))
}

struct Inside {
    calls: Arc<Calls>,
    settings: Settings,
    serving: Arc<Serving>,
    /// Everything that is mapped, oldest first.
    loaded: Mutex<Vec<Loaded>>,
}

struct Loaded {
    generation: u64,
    plugin: String,
    /// As the kernel shows it.
    mapped: PathBuf,
}

impl Workshop for Inside {
    fn load(&self, library: &Library) -> Result<Vec<LoadedPlugin>, Refusal> {
        let generation = self.start(library)?;
        self.publish(&generation);
        Ok(vec![fit::offer(&generation)])
    }

    fn load_older(&self, library: &Library) -> Result<Vec<LoadedPlugin>, Refusal> {
        let generation = self.start(library)?;
        self.calls.add_older(&generation);
        generation.set_level(telemetry::level() as u32);
        Ok(vec![fit::offer(&generation)])
    }

    fn stays(&self, conf: Sha256, on: Vec<Stay>) {
        self.calls.inherit(conf.0, on);
    }

    fn forbid(&self, generation: u64) {
        let mut alive = self.calls.registry().alive().into_iter();
        if let Some(forbidden) = alive.find(|known| known.number == generation) {
            forbidden.forbid();
            self.calls.reassemble(forbidden.name());
        }
    }

    fn unload(&self, file: &Path) {
        let changes = self.calls.registry().remove(file);
        changes.iter().for_each(log_gone);
        self.calls.moved(&changes);
    }

    fn conf(&self, token: u32, payload: Vec<u8>) {
        self.calls.remember(token, &payload);
    }

    fn bind(&self, bindings: Vec<Binding>) {
        self.calls.bind(bindings);
    }

    fn serve(
        &self,
        listener: OwnedFd,
        served: &Served,
        settle: Duration,
        states: Option<OwnedFd>,
    ) -> io::Result<()> {
        self.calls.open(served, settle);
        match states.map(states::ask) {
            Some(Ok(left)) => {
                self.calls.were_unused(&left.unused);
                self.calls.import_states(left.states);
            }
            Some(Err(cause)) => tracing::warn!(
                %cause,
                "the states of confs are lost, as the worker before this one did not give them: limiters start afresh"
            ),
            None => {}
        }
        let server = Server::start(listener, Arc::clone(&self.calls), self.settings.clone())?;
        self.serving.install(server);
        Ok(())
    }

    fn export_states(&self, to: OwnedFd) {
        let given = states::give(to, || states::Left {
            states: self.calls.export_states(states::EXPORT),
            unused: self.calls.unused(),
        });
        if let Err(cause) = given {
            tracing::debug!(%cause, "nobody took the states of confs");
        }
    }

    fn adopt(&self, from: OwnedFd) -> io::Result<()> {
        self.serving.adopt(from)
    }

    fn hand_over(&self, to: OwnedFd, listener: Option<OwnedFd>, within: Duration) -> HandedOver {
        if let Some(listener) = listener {
            let (calls, settings) = (Arc::clone(&self.calls), self.settings.clone());
            match Server::at_rest(listener, calls, settings) {
                Ok(server) => self.serving.install(server),
                Err(cause) => tracing::error!(%cause, "connections cannot be handed over"),
            }
        }
        let until = Instant::now() + within;
        let Some(handed) = self.serving.hand_over(&to, within) else {
            return HandedOver::default();
        };
        if !handed.broken {
            let logged = log_phase::drain(until.saturating_duration_since(Instant::now()));
            tracing::debug!(?handed, logged, "handed over");
        }
        HandedOver {
            passed: handed.passed,
            cut: handed.cut,
            broken: handed.broken,
        }
    }

    fn drain(&self, within: Duration) {
        let until = Instant::now() + within;
        if let Some(server) = self.serving.wait(within) {
            let drained = server.drain(until.saturating_duration_since(Instant::now()));
            let logged = log_phase::drain(until.saturating_duration_since(Instant::now()));
            tracing::debug!(?drained, logged, "drained");
        }
    }

    fn set_level(&self, level: Level) {
        for generation in self.calls.registry().alive() {
            generation.set_level(level as u32);
        }
    }

    fn stuck_threads(&self) -> usize {
        let server = self.serving.server();
        server.map_or(0, Server::stuck_threads)
    }

    fn report(&self, described: bool) -> Report {
        let loaded = self.loaded();
        let names: Vec<_> = loaded.iter().map(|loaded| loaded.mapped.clone()).collect();
        let (confs, memory) = (self.calls.confs(), memory::resident(&names));
        let generations = loaded.iter().map(|loaded| GenerationReport {
            confs: confs.get(&loaded.generation).copied().unwrap_or(0),
            memory: memory.get(&loaded.mapped).copied().unwrap_or(0),
            ..self.generation(loaded, described)
        });
        let server = self.serving.server();
        Report {
            connections: server.map_or(0, Server::connections),
            stuck_loops: server.map_or(0, Server::stuck),
            bindings: self.calls.bound(),
            log_lines_dropped: telemetry::dropped(),
            log_calls_dropped: log_phase::dropped(),
            generations: generations.collect(),
        }
    }
}

impl Inside {
    fn loaded(&self) -> MutexGuard<'_, Vec<Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, library: &Library) -> Result<Arc<Generation>, Refusal> {
        let config = self.calls.config();
        let candidate = fit::candidate(library, &config.plugins)?;
        let module = candidate.open()?;
        let mapped = memory::mapped_name(&library.path);
        blame::note_range(library.generation, &mapped);
        self.loaded().push(Loaded {
            generation: library.generation,
            plugin: candidate.about.name.clone(),
            mapped,
        });
        let purpose = Purpose::Serve;
        let started = Generation::start(candidate, module, purpose, config, host::host());
        Ok(started?)
    }

    fn generation(&self, loaded: &Loaded, described: bool) -> GenerationReport {
        let registry = self.calls.registry();
        let serving = registry.serving(&loaded.plugin).ok();
        let mut alive = registry.alive().into_iter();
        let known = alive.find(|known| known.number == loaded.generation);
        let told = known.as_ref().filter(|_| described);
        let described = told.map(|known| Described {
            about: known.about.clone(),
            schema: known
                .schema
                .as_ref()
                .map_or(Value::Null, |schema| schema.value().clone()),
        });
        let counts = known.map(|known| known.tally.counts()).unwrap_or_default();
        GenerationReport {
            generation: loaded.generation,
            plugin: loaded.plugin.clone(),
            serving: serving.is_some_and(|serving| serving.number == loaded.generation),
            calls: counts.calls,
            errors: counts.errors,
            panics: counts.panics,
            last_error: counts.last_error.map(|(at, text)| LastError {
                text,
                at: seconds(at),
            }),
            described,
            ..GenerationReport::default()
        }
    }

    fn publish(&self, generation: &Arc<Generation>) {
        let changes = self.calls.registry().add(generation);
        // It may have changed since the generation was told, and only what is in the registry is told again.
        generation.set_level(telemetry::level() as u32);
        let gone = |change: &&Change| change.name != generation.name();
        changes.iter().filter(gone).for_each(log_gone);
        self.calls.moved(&changes);
        let serving = self.calls.registry().serving(generation.name());
        let other = serving
            .ok()
            .filter(|serving| serving.number != generation.number);
        if let Some(other) = other {
            tracing::warn!(
                hint = format!(
                    "remove one of them, or name one in the configuration: plugins.files.{}",
                    other.name()
                ),
                "{} offers plugin {}, which {} serves already: it stands by",
                generation.file.display(),
                other.name(),
                other.file.display()
            );
        }
    }
}

/// A plugin's library is gone, or offers another plugin now.
fn log_gone(change: &Change) {
    let name = &change.name;
    match &change.now {
        Some(now) => tracing::info!(
            "plugin {name} is served by {} now, as its library is gone",
            now.file.display()
        ),
        None => tracing::warn!(
            "plugin {name} has no library any more: its calls are answered with an error"
        ),
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn expire_tokens(calls: &Arc<Calls>, tick: Duration) -> io::Result<()> {
    let calls = Arc::downgrade(calls);
    let expire = move || {
        while let Some(calls) = Weak::upgrade(&calls) {
            calls.expire();
            drop(calls);
            thread::park_timeout(tick);
        }
    };
    thread::Builder::new()
        .name("expiry".to_owned())
        .spawn(expire)?;
    Ok(())
}
