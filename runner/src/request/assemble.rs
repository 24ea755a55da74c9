//! Makes the snapshot of a chain: which generation serves each plugin, and what it made of the conf.
//!
//! Configuring is author code, so it runs on threads of its own: calls that need the result wait for it within their
//! deadline, and nobody else does.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::chain::{Chain, Link, LinkState, Snapshot};
use crate::config::Config;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;
use crate::plugins::registry::{Registry, Unserved};

/// Confs that are configured at once. One that hangs holds one of these threads.
const THREADS: usize = 64;

/// Configures confs, off the event loops.
#[derive(Debug)]
pub struct Assembler {
    registry: Arc<Registry>,
    config: Arc<Config>,
    threads: Runtime,
}

impl Assembler {
    /// # Errors
    /// No thread can be had.
    pub fn new(registry: Arc<Registry>, config: Arc<Config>) -> io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(THREADS)
            .thread_name("configure")
            .enable_time()
            .build()?;
        Ok(Self {
            registry,
            config,
            threads,
        })
    }

    /// Assembles a chain, soon.
    pub fn assemble(&self, chain: Arc<Chain>) -> tokio::task::JoinHandle<()> {
        let (registry, config) = (Arc::clone(&self.registry), Arc::clone(&self.config));
        self.threads
            .spawn_blocking(move || run(&chain, &registry, &config))
    }

    /// Assembles chains and waits until all are done, at most `within`. Not for event loops.
    pub fn assemble_all(&self, chains: Vec<Arc<Chain>>, within: Duration) {
        let jobs: Vec<_> = chains
            .into_iter()
            .map(|chain| self.assemble(chain))
            .collect();
        let all = async {
            for job in jobs {
                // A job that panicked has logged it; its chain keeps what it had.
                let _ = job.await;
            }
        };
        let done = self
            .threads
            .block_on(async { tokio::time::timeout(within, all).await });
        if done.is_err() {
            tracing::warn!(
                "some confs are still being configured after {within:?}: until then they keep what they had"
            );
        }
    }
}

fn run(chain: &Chain, registry: &Registry, config: &Config) {
    let _one_at_a_time = chain
        .assembly
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let before = chain.snapshot();
    let links = chain
        .conf
        .plugins
        .iter()
        .enumerate()
        .map(|(index, conf)| Link {
            name: conf.name.clone(),
            state: link(chain, index, &before, registry),
            on_failure: config.plugins.on_failure(&conf.name),
        });
    chain.publish(links.collect());
}

fn link(chain: &Chain, index: usize, before: &Snapshot, registry: &Registry) -> LinkState {
    let conf = &chain.conf.plugins[index];
    let before = before.links.get(index).map(|link| &link.state);
    let generation = match registry.serving(&conf.name) {
        Ok(generation) => generation,
        Err(unserved) => return unserved_link(chain, &conf.name, &unserved),
    };
    if let Some(LinkState::Ready(prepared)) = before
        && prepared.generation().number == generation.number
    {
        return LinkState::Ready(Arc::clone(prepared));
    }
    match Prepared::new(&generation, &conf.value, &chain.conf.route_key) {
        Ok(prepared) => LinkState::Ready(Arc::new(prepared)),
        Err(error) => refused_link(chain, &generation, before, &error),
    }
}

fn unserved_link(chain: &Chain, name: &str, unserved: &Unserved) -> LinkState {
    let (cause, hint) = match unserved {
        Unserved::Unknown => (
            format!("no library offers plugin `{name}`"),
            "put its library into the plugins folder".to_owned(),
        ),
        Unserved::Ambiguous(files) => (
            format!(
                "{} offer plugin `{name}`, and none has served before",
                files.join(" and ")
            ),
            format!("remove all but one, or name it in the configuration: plugins.files.{name}"),
        ),
    };
    tracing::error!(
        route_key = chain.conf.route_key,
        hint,
        "{cause}: calls of this route are answered with an error"
    );
    LinkState::Failing(cause.into())
}

/// A conf that the new generation refuses stays on the old one; without one its calls fail.
fn refused_link(
    chain: &Chain,
    generation: &Generation,
    before: Option<&LinkState>,
    error: &str,
) -> LinkState {
    let (plugin, version) = (generation.name(), &generation.about.version);
    let route_key = &chain.conf.route_key;
    if let Some(LinkState::Ready(prepared)) = before {
        let old = prepared.generation();
        tracing::warn!(
            plugin,
            route_key,
            generation = generation.number,
            "{plugin} {version} refused the conf of this route: {error}; generation {} ({}) goes on serving it",
            old.number,
            old.about.version
        );
        return LinkState::Ready(Arc::clone(prepared));
    }
    tracing::error!(
        plugin,
        route_key,
        generation = generation.number,
        "{plugin} {version} refused the conf of this route: {error}; its calls are answered with an error until the conf is mended"
    );
    LinkState::Failing(format!("plugin `{plugin}` refused its conf: {error}").into())
}
