//! Makes the snapshot of a chain: which generation serves each plugin, and what it made of the conf.
//!
//! Configuring is author code, so it runs on threads of its own: calls that need the result wait for it within their
//! deadline, and nobody else does.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::chain::{Chain, Link, LinkState};
use super::heritage::{self, Heir};
use super::older::OlderBuilds;
use super::prepared::PreparedConfs;
use super::saved::SavedState;
use crate::config::Config;
use crate::plugins::blame::{activity, during};
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;
use crate::plugins::registry::{Registry, Unserved};

/// Confs that are configured at once. One that hangs holds one of these threads.
const THREADS: usize = 64;

/// Configures confs, off the event loops.
#[derive(Debug)]
pub struct Assembler {
    assembly: Arc<Assembly>,
    threads: Runtime,
}

/// What an assembly needs.
#[derive(Debug)]
struct Assembly {
    registry: Arc<Registry>,
    config: Arc<Config>,
    prepared: PreparedConfs,
    older: Arc<OlderBuilds>,
}

impl Assembler {
    /// # Errors
    /// No thread can be had.
    pub fn new(
        registry: Arc<Registry>,
        config: Arc<Config>,
        older: Arc<OlderBuilds>,
    ) -> io::Result<Self> {
        let threads = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(THREADS)
            .thread_name("configure")
            .enable_time()
            .build()?;
        let assembly = Assembly {
            registry,
            config,
            prepared: PreparedConfs::default(),
            older,
        };
        Ok(Self {
            assembly: Arc::new(assembly),
            threads,
        })
    }

    /// What confs stay on.
    pub fn older(&self) -> &Arc<OlderBuilds> {
        &self.assembly.older
    }

    /// Assembles a chain, soon.
    pub fn assemble(&self, chain: Arc<Chain>) -> tokio::task::JoinHandle<()> {
        let assembly = Arc::clone(&self.assembly);
        self.threads.spawn(async move {
            if let Some(assembled) = Arc::clone(&assembly).run(chain).await {
                assembled.settle().await;
                assembled.publish(&assembly);
            }
        })
    }

    /// The states of all confs, for another worker. Waits for them, at most `within`. Not for event loops.
    pub fn export_states(&self, within: Duration) -> Vec<SavedState> {
        let confs = self.assembly.prepared.stateful();
        self.threads.block_on(heritage::export_all(confs, within))
    }

    /// Takes the states of an earlier worker: confs that were configured already go on with theirs at once, the others
    /// when they are. Waits for the former, for two seconds at most. Not for event loops.
    pub fn import_states(&self, states: Vec<SavedState>) {
        let prepared = &self.assembly.prepared;
        self.threads
            .block_on(heritage::settle_all(prepared.inherit(states)));
    }

    /// Forgets the states of an earlier worker whose confs have not come.
    pub fn expire_states(&self) {
        self.assembly.prepared.expire();
    }

    /// Runs something when it has time. `job` runs no author code.
    pub fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        self.threads.spawn(job);
    }

    /// Assembles chains and publishes them together, so that all routes move to a new build at once. Waits for them,
    /// at most `within`; a chain that takes longer moves when it is done. Not for event loops.
    pub fn assemble_all(&self, chains: Vec<Arc<Chain>>, within: Duration) {
        let together = Arc::new(Together::default());
        let jobs: Vec<_> = chains
            .into_iter()
            .map(|chain| {
                let (assembly, together) = (Arc::clone(&self.assembly), Arc::clone(&together));
                self.threads.spawn(async move {
                    let assembled = Arc::clone(&assembly).run(chain).await;
                    if let Some(late) = assembled.and_then(|it| together.add(it)) {
                        late.settle().await;
                        late.publish(&assembly);
                    }
                })
            })
            .collect();
        let all = async {
            for job in jobs {
                // Only the end of the runtime ends a job before its time.
                let _ = job.await;
            }
        };
        let done = self
            .threads
            .block_on(async { tokio::time::timeout(within, all).await });
        let assembled = together.close();
        let heirs = assembled.iter().flat_map(|it| it.heirs.clone()).collect();
        self.threads.block_on(heritage::settle_all(heirs));
        for it in assembled {
            it.publish(&self.assembly);
        }
        if done.is_err() {
            tracing::warn!(
                "some confs are still being configured after {within:?}: until then they keep what they had"
            );
        }
    }
}

/// A chain's next snapshot.
struct Assembled {
    chain: Arc<Chain>,
    number: u64,
    links: Vec<Link>,
    /// Who takes over a state before they serve.
    heirs: Vec<(Arc<Heir>, Arc<Prepared>)>,
}

impl Assembled {
    async fn settle(&self) {
        heritage::settle_all(self.heirs.clone()).await;
    }

    fn publish(self, assembly: &Assembly) {
        self.chain.publish(self.number, self.links);
        assembly.older.note(&self.chain, &assembly.registry);
    }
}

/// Snapshots that wait for each other; `None` once no more may join them.
struct Together(Mutex<Option<Vec<Assembled>>>);

impl Default for Together {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Together {
    /// Gives back what comes too late.
    fn add(&self, assembled: Assembled) -> Option<Assembled> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) => {
                waiting.push(assembled);
                None
            }
            None => Some(assembled),
        }
    }

    fn close(&self) -> Vec<Assembled> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.unwrap_or_default()
    }
}

impl Assembly {
    /// `None` after a panic, which has been logged, or at the end of the process: the chain keeps what it had.
    async fn run(self: Arc<Self>, chain: Arc<Chain>) -> Option<Assembled> {
        let number = chain.begin();
        let before = chain.snapshot();
        let mut links = Vec::with_capacity(chain.conf.plugins.len());
        for (index, conf) in chain.conf.plugins.iter().enumerate() {
            let before = before.links.get(index).map(|link| link.state.clone());
            links.push(Link {
                name: conf.name.clone(),
                state: Arc::clone(&self).link(&chain, index, before).await?,
                on_failure: self.config.plugins.on_failure(&conf.name),
                scoped: None,
            });
        }
        let heirs = self.heirs(&chain, &links);
        Some(Assembled {
            chain,
            number,
            links,
            heirs,
        })
    }

    fn heirs(&self, chain: &Chain, links: &[Link]) -> Vec<(Arc<Heir>, Arc<Prepared>)> {
        let links = links.iter().enumerate();
        let heirs = links.filter_map(|(index, link)| {
            let LinkState::Ready(prepared) = &link.state else {
                return None;
            };
            let heir = self
                .prepared
                .heir(prepared.generation(), &chain.conf, index)?;
            Some((heir, Arc::clone(prepared)))
        });
        heirs.collect()
    }

    /// `None` as with `run`.
    async fn link(
        self: Arc<Self>,
        chain: &Arc<Chain>,
        index: usize,
        before: Option<LinkState>,
    ) -> Option<LinkState> {
        let name = &chain.conf.plugins[index].name;
        let generation = match self.registry.serving(name) {
            Ok(generation) => generation,
            Err(unserved) => return Some(unserved_link(chain, name, &unserved, &self.config)),
        };
        if let Some(LinkState::Ready(prepared)) = &before
            && prepared.generation().number == generation.number
        {
            return before;
        }
        // Held for this conf alone: the chain's other plugins are not kept from other routes.
        let permit = Arc::clone(&generation.configuring).acquire_owned().await;
        let chain = Arc::clone(chain);
        let configure = move || {
            let _permit = permit;
            let code = || self.prepared.get(&generation, &chain.conf, index);
            match during(generation.number, activity::CONFIGURE, chain.token, code) {
                Ok(prepared) => LinkState::Ready(prepared),
                Err(error) => {
                    let before = before.filter(may_stay);
                    let before = before.or_else(|| self.inherited_link(&chain, index));
                    refused_link(&chain, &generation, before.as_ref(), &error)
                }
            }
        };
        tokio::task::spawn_blocking(configure).await.ok()
    }

    /// The older build that the worker before this one served the conf with, if there is one. Runs author code.
    fn inherited_link(&self, chain: &Chain, index: usize) -> Option<LinkState> {
        let older = self.older.build(chain, index)?;
        let code = || self.prepared.get(&older, &chain.conf, index);
        let prepared = during(older.number, activity::CONFIGURE, chain.token, code);
        prepared.ok().map(LinkState::Ready)
    }
}

/// Whether a conf may stay on what it has.
fn may_stay(state: &LinkState) -> bool {
    match state {
        LinkState::Ready(prepared) => !prepared.generation().is_forbidden(),
        LinkState::Failing(_) | LinkState::Unbound => false,
    }
}

fn unserved_link(chain: &Chain, name: &str, unserved: &Unserved, config: &Config) -> LinkState {
    let (cause, hint) = match unserved {
        Unserved::Unknown if !config.plugins.wants(name) => (
            format!("plugin `{name}` is not enabled"),
            "see `plugins.enabled` and `plugins.disabled` in the configuration".to_owned(),
        ),
        Unserved::Unknown => (
            format!("no library offers plugin `{name}`"),
            "put its library into the plugins folder".to_owned(),
        ),
        Unserved::NotChosen { chosen, offered } => (
            format!("plugin `{name}` shall be served by {chosen}, which does not offer it"),
            format!(
                "put that file into the plugins folder, or change plugins.files.{name}: there is {}",
                offered.join(" and ")
            ),
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

#[cfg(test)]
mod tests;
