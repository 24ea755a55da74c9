//! Makes the snapshot of a chain: which generation serves each plugin, and what it made of the conf.
//!
//! Configuring is author code, so it runs on threads of its own: calls that need the result wait for it within their
//! deadline, and nobody else does.

mod failing;
mod one_build;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use self::failing::{refused_link, unserved_link};
use super::chain::{Chain, Link, LinkState};
use super::conf::Conf;
use super::heritage::{self, Inheritance};
use super::older::OlderBuilds;
use super::prepared::PreparedConfs;
use super::saved::SavedState;
use crate::config::{Config, OnFailure};
use crate::plugins::blame::{activity, during};
use crate::plugins::generation::Generation;
use crate::plugins::registry::{Registry, Unserved};

/// Confs that are configured at once. One that hangs holds one of these threads.
const THREADS: usize = 64;

/// For blame: no gateway has named the conf of a binding.
const BINDING: u32 = 0;

/// Which build serves a plugin, or why there is none.
type Served = Result<Arc<Generation>, Unserved>;

/// Configures confs, off the event loops.
#[derive(Debug)]
pub struct Assembler {
    assembly: Arc<Assembly>,
    threads: Runtime,
}

/// What an assembly needs.
#[derive(Debug)]
pub(super) struct Assembly {
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
    pub fn assemble(&self, chain: Arc<Chain>) -> JoinHandle<()> {
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

    /// Runs something when it has time. `job` itself runs no author code.
    pub fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.threads.spawn(job)
    }

    /// Waits for something that was spawned. Not for event loops.
    pub fn wait(&self, jobs: Vec<JoinHandle<()>>, within: Duration) {
        let all = async {
            for job in jobs {
                // Only the end of the runtime ends a job before its time.
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

    /// What it takes to configure a conf.
    pub(super) fn assembly(&self) -> Arc<Assembly> {
        Arc::clone(&self.assembly)
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
        self.wait(jobs, within);
        let assembled = together.close();
        let heirs = assembled.iter().flat_map(|it| it.heirs.clone()).collect();
        self.threads.block_on(heritage::settle_all(heirs));
        for it in assembled {
            it.publish(&self.assembly);
        }
    }
}

/// A chain's next snapshot.
struct Assembled {
    chain: Arc<Chain>,
    number: u64,
    links: Vec<Link>,
    /// Who takes over a state before they serve.
    heirs: Vec<Inheritance>,
}

impl Assembled {
    async fn settle(&self) {
        heritage::settle_all(self.heirs.clone()).await;
    }

    fn publish(self, assembly: &Assembly) {
        self.chain.publish(self.number, self.links);
        let links = || self.chain.snapshot().links.clone();
        assembly
            .older
            .note(&self.chain.conf, links, &assembly.registry);
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
        let mut states = Vec::with_capacity(chain.conf.plugins.len());
        for (index, served) in self.served(&chain.conf).into_iter().enumerate() {
            let before = before.links.get(index).map(|link| link.state.clone());
            let link = Arc::clone(&self).link(&chain.conf, index, chain.token, before, served);
            states.push(link.await?);
        }
        one_build::settle(&self, &chain, &mut states).await?;
        let confs = chain.conf.plugins.iter();
        let links: Vec<_> = confs
            .zip(states)
            .map(|(conf, state)| Link {
                name: conf.name.clone(),
                state,
                on_failure: self.config.plugins.on_failure(&conf.name),
                scoped: None,
            })
            .collect();
        let states = links.iter().map(|link| &link.state);
        let heirs = states.enumerate();
        let heirs = heirs.filter_map(|(index, state)| self.heir(&chain.conf, index, state));
        let heirs = heirs.collect();
        Some(Assembled {
            chain,
            number,
            links,
            heirs,
        })
    }

    /// What serves each plugin of a chain: one build for all confs of a plugin, whatever is loaded meanwhile.
    fn served(&self, conf: &Conf) -> Vec<Served> {
        let mut served: BTreeMap<&str, Served> = BTreeMap::new();
        let names = conf.plugins.iter().map(|conf| conf.name.as_str());
        let look = |name| {
            let known = served.entry(name);
            known.or_insert_with(|| self.registry.serving(name)).clone()
        };
        names.map(look).collect()
    }

    /// Who takes over the state of a conf, if it has any.
    pub(super) fn heir(&self, conf: &Conf, index: usize, state: &LinkState) -> Option<Inheritance> {
        let LinkState::Ready(prepared) = state else {
            return None;
        };
        let heir = self.prepared.heir(prepared.generation(), conf, index)?;
        Some((heir, Arc::clone(prepared)))
    }

    /// Number of the generation that serves a plugin.
    pub(super) fn serving(&self, plugin: &str) -> Option<u64> {
        let serving = self.registry.serving(plugin).ok();
        serving.map(|generation| generation.number)
    }

    /// What the failure of a plugin means for its calls.
    pub(super) fn on_failure(&self, plugin: &str) -> OnFailure {
        self.config.plugins.on_failure(plugin)
    }

    /// What a conf runs with: what it had `before` if that is still what serves. `None`: as with `run`.
    async fn link(
        self: Arc<Self>,
        conf: &Arc<Conf>,
        index: usize,
        token: u32,
        before: Option<LinkState>,
        served: Served,
    ) -> Option<LinkState> {
        let name = &conf.plugins.get(index)?.name;
        let generation = match served {
            Ok(generation) => generation,
            Err(unserved) => return Some(unserved_link(conf, name, &unserved, &self.config)),
        };
        if let Some(LinkState::Ready(prepared)) = &before
            && prepared.generation().number == generation.number
        {
            return before;
        }
        // Held for this conf alone: the chain's other plugins are not kept from other routes.
        let permit = Arc::clone(&generation.configuring).acquire_owned().await;
        let conf = Arc::clone(conf);
        let configure = move || {
            let _permit = permit;
            let code = || self.prepared.get(&generation, &conf, index);
            match during(generation.number, activity::CONFIGURE, token, code) {
                Ok(prepared) => LinkState::Ready(prepared),
                Err(error) => {
                    let before = before.filter(LinkState::may_stay);
                    let before = before.or_else(|| self.inherited_link(&conf, index, token));
                    refused_link(&conf, &generation, before.as_ref(), &error)
                }
            }
        };
        tokio::task::spawn_blocking(configure).await.ok()
    }

    /// The older build that the worker before this one served the conf with, if there is one. Runs author code.
    fn inherited_link(&self, conf: &Conf, index: usize, token: u32) -> Option<LinkState> {
        let older = self.older.build(conf, index)?;
        let code = || self.prepared.get(&older, conf, index);
        let prepared = during(older.number, activity::CONFIGURE, token, code);
        prepared.ok().map(LinkState::Ready)
    }

    /// What a binding runs with; as [`Assembly::link`], but what it stayed on in the worker before this one comes first, as
    /// the bindings of a plugin stay together.
    pub(super) async fn bound_link(
        self: Arc<Self>,
        conf: &Arc<Conf>,
        before: Option<LinkState>,
    ) -> Option<LinkState> {
        if self.older.build(conf, 0).is_none() {
            let served = self.registry.serving(&conf.plugins.first()?.name);
            return self.link(conf, 0, BINDING, before, served).await;
        }
        let conf = Arc::clone(conf);
        let again = move || self.inherited_link(&conf, 0, BINDING);
        tokio::task::spawn_blocking(again).await.ok().flatten()
    }

    /// Says what a binding runs with from now on.
    pub(super) fn note_bound(&self, conf: &Conf, link: &Link) {
        let links = || vec![link.clone()];
        self.older.note(conf, links, &self.registry);
    }

    /// Says that a binding is gone.
    pub(super) fn forget_bound(&self, conf: &Conf) {
        self.older.forget(conf);
    }
}

#[cfg(test)]
mod tests;
