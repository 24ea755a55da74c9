//! Confs that a newer build has refused and that an older one goes on serving: which they are, so that the next worker
//! serves them as this one does. Runs no author code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::assign::{AssignToken, Stay};
use super::chain::{Link, LinkState};
use super::conf::Conf;
use crate::plugins::generation::Generation;
use crate::plugins::registry::Registry;

/// All of them.
pub struct OlderBuilds {
    tokens: Arc<dyn AssignToken>,
    state: Mutex<State>,
}

/// A chain's name in every worker: a digest of its key and its confs.
type Digest = [u8; 32];

#[derive(Debug, Default)]
struct State {
    /// What the worker before this one served so; until the chain serves again.
    inherited: HashMap<Digest, Vec<Stay>>,
    /// Builds that were loaded for what was inherited.
    builds: HashMap<u64, Arc<Generation>>,
    /// What the supervisor knows.
    told: HashMap<Digest, Vec<Stay>>,
}

impl std::fmt::Debug for OlderBuilds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OlderBuilds").field(&self.state).finish()
    }
}

impl OlderBuilds {
    /// None yet; changes are told to `tokens`.
    pub fn new(tokens: Arc<dyn AssignToken>) -> Self {
        Self {
            tokens,
            state: Mutex::default(),
        }
    }

    /// Takes what the worker before this one served so. Before its chain is assembled.
    pub fn inherit(&self, conf: Digest, stays: Vec<Stay>) {
        let mut state = self.lock();
        state.told.insert(conf, stays.clone());
        state.inherited.insert(conf, stays);
    }

    /// Takes an older build that was loaded for what was inherited.
    pub fn add(&self, generation: &Arc<Generation>) {
        let mut state = self.lock();
        let number = generation.number;
        state.builds.insert(number, Arc::clone(generation));
    }

    /// The older build that serves this place of a chain if the newest refuses its conf.
    pub fn build(&self, conf: &Conf, index: usize) -> Option<Arc<Generation>> {
        let state = self.lock();
        if state.inherited.is_empty() {
            return None;
        }
        let stays = state.inherited.get(&conf.digest())?;
        let stay = stays.iter().find(|stay| stay.index == index)?;
        state.builds.get(&stay.generation).cloned()
    }

    /// A chain was published: tells the supervisor if what it runs on older builds has changed.
    pub fn note(&self, conf: &Conf, links: impl FnOnce() -> Vec<Link>, registry: &Registry) {
        let mut state = self.lock();
        // Under the lock, so that of two assemblies the newer one is noted last.
        let links = links();
        let stays = stays(&links, registry);
        if stays.is_empty() && state.told.is_empty() {
            return;
        }
        let conf = conf.digest();
        let failing = |link: &Link| matches!(link.state, LinkState::Failing(_));
        if state.inherited.contains_key(&conf) && links.iter().any(failing) {
            return; // its older build may still be on its way
        }
        state.settle(&conf);
        let told = state.told.get(&conf).map_or(&[][..], Vec::as_slice);
        if told == stays {
            return;
        }
        self.tokens.stays(&conf, &stays);
        match stays.is_empty() {
            true => drop(state.told.remove(&conf)),
            false => drop(state.told.insert(conf, stays)),
        }
    }

    /// A chain is gone.
    pub fn forget(&self, conf: &Conf) {
        let mut state = self.lock();
        if state.told.is_empty() {
            return;
        }
        let conf = conf.digest();
        state.settle(&conf);
        if state.told.remove(&conf).is_some() {
            self.tokens.stays(&conf, &[]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What this conf inherited has served its purpose. A build that no other needs goes with its last conf.
    fn settle(&mut self, conf: &Digest) {
        if self.inherited.remove(conf).is_some() {
            let needed = self.inherited.values().flatten();
            let needed: Vec<u64> = needed.map(|stay| stay.generation).collect();
            self.builds.retain(|number, _| needed.contains(number));
        }
    }
}

fn stays(links: &[Link], registry: &Registry) -> Vec<Stay> {
    let on_older = links.iter().enumerate().filter_map(|(index, link)| {
        let LinkState::Ready(prepared) = &link.state else {
            return None;
        };
        let generation = prepared.generation().number;
        let newest = registry.serving(&link.name).ok()?.number;
        (generation != newest).then_some(Stay { index, generation })
    });
    on_older.collect()
}
