//! The inside of a worker: plugins, chains and the socket, put together.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, Level};
use crate::plugins::elf;
use crate::plugins::generation::{Candidate, Generation, Refused};
use crate::plugins::metadata::{About, Metadata, Unfit};
use crate::request::assign::AssignToken;
use crate::request::calls::Calls;
use crate::request::{host, log_phase, plugin_log};
use crate::rpc::server::{Server, Settings};
use crate::supervise::accounts;
use crate::supervise::workshop::{Library, LoadedPlugin, Refusal, Workshop};

/// How often unused tokens are looked for: far more often than they expire.
const EXPIRY_TICK: Duration = Duration::from_secs(30);

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
    };
    let calls = Arc::new(Calls::new(config, tokens)?);
    expire_tokens(&calls)?;
    Ok(Arc::new(Inside {
        calls,
        settings,
        server: OnceLock::new(),
    }))
}

struct Inside {
    calls: Arc<Calls>,
    settings: Settings,
    server: OnceLock<Server<Calls>>,
}

impl Workshop for Inside {
    fn load(&self, library: &Library) -> Result<Vec<LoadedPlugin>, Refusal> {
        let about = self.fit(&library.path)?;
        plugin_log::introduce(library.generation, &about.name);
        let candidate = Candidate {
            number: library.generation,
            file: library.file.clone(),
            copy: library.path.clone(),
            about,
        };
        let generation = Generation::load(candidate, self.calls.config(), host::host())?;
        let loaded = LoadedPlugin {
            name: generation.name().to_owned(),
            version: generation.about.version.clone(),
            priority: generation.about.priority,
        };
        self.publish(&generation);
        Ok(vec![loaded])
    }

    fn unload(&self, file: &Path) {
        let changes = self.calls.registry().remove(file);
        for change in &changes {
            match &change.now {
                Some(now) => tracing::info!(
                    "plugin {} is served by {} now, as its library is gone",
                    change.name,
                    now.file.display()
                ),
                None => tracing::warn!(
                    "plugin {} has no library any more: its calls are answered with an error",
                    change.name
                ),
            }
        }
        self.calls.moved(&changes);
    }

    fn conf(&self, token: u32, payload: Vec<u8>) {
        self.calls.remember(token, &payload);
    }

    fn serve(&self, listener: OwnedFd) -> io::Result<()> {
        self.calls.open();
        let server = Server::start(listener, Arc::clone(&self.calls), self.settings.clone())?;
        // A second order to serve is a fault of the supervisor; the first server goes on.
        let _ = self.server.set(server);
        Ok(())
    }

    fn drain(&self, within: Duration) {
        if let Some(server) = self.server.get() {
            let until = Instant::now() + within;
            let drained = server.drain(within);
            let logged = log_phase::drain(until.saturating_duration_since(Instant::now()));
            tracing::debug!(?drained, logged, "drained");
        }
    }

    fn set_level(&self, level: Level) {
        for generation in self.calls.registry().alive() {
            generation.set_level(level as u32);
        }
    }
}

impl Inside {
    /// Reads and judges the metadata of a private copy, before any of its code runs.
    fn fit(&self, copy: &Path) -> Result<About, Refusal> {
        let bytes = fs::read(copy).map_err(|error| Refusal {
            cause: format!("its private copy cannot be read: {error}"),
            hint: Some("see that `state.dir` can be searched by `worker.user`".to_owned()),
        })?;
        let section = elf::section(&bytes, plugin_api::abi::metadata::SECTION);
        let metadata = Metadata::read(section.unwrap_or_default())?;
        let about = metadata.check()?;
        self.wanted(about)?;
        Ok(about.clone())
    }

    fn wanted(&self, about: &About) -> Result<(), Refusal> {
        let plugins = &self.calls.config().plugins;
        let enabled = plugins
            .enabled
            .as_ref()
            .is_none_or(|names| names.contains(&about.name));
        if enabled && !plugins.disabled.contains(&about.name) {
            return Ok(());
        }
        Err(Refusal {
            cause: format!("its plugin `{}` is not enabled", about.name),
            hint: Some(
                "see `plugins.enabled` and `plugins.disabled` in the configuration".to_owned(),
            ),
        })
    }

    fn publish(&self, generation: &Arc<Generation>) {
        let change = self.calls.registry().add(generation);
        self.calls.moved(change.as_slice());
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

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        Self {
            cause: unfit.to_string(),
            hint: Some(unfit.hint().to_owned()),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self {
            cause: refused.cause,
            hint: refused.hint,
        }
    }
}

fn expire_tokens(calls: &Arc<Calls>) -> io::Result<()> {
    let calls = Arc::downgrade(calls);
    let expire = move || {
        while let Some(calls) = Weak::upgrade(&calls) {
            calls.expire();
            drop(calls);
            thread::park_timeout(EXPIRY_TICK);
        }
    };
    thread::Builder::new()
        .name("expiry".to_owned())
        .spawn(expire)?;
    Ok(())
}
