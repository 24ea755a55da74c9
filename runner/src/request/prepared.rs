//! What was made of confs, as long as a chain holds it, and whose state it is to take over.
//!
//! The gateway gives a route a new key whenever anything is edited (APISIX standalone: any route), and with it new
//! tokens. A conf that comes again unchanged gets what was made of it before: a limiter keeps counting. In another
//! generation, or another worker, it gets the state of what was made of it before: `request/heritage` hands that on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::conf::Conf;
use super::heritage::{Heir, Heritage, Inheritance};
use super::saved::{ConfId, MOST, SavedState};
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;

/// Entries before the first look for those that nobody holds any more.
const FIRST_SWEEP: usize = 1024;

/// How long the states of an earlier worker wait for their confs.
const WAIT: Duration = Duration::from_secs(60);

/// All of them, by what they were made of.
#[derive(Debug, Default)]
pub struct PreparedConfs(Mutex<Table>);

/// What one generation made of a conf.
#[derive(Debug, Default)]
struct Place {
    generation: u64,
    /// Locked while it is being made, so that it is made once.
    made: Mutex<Weak<Prepared>>,
    heir: Arc<Heir>,
}

#[derive(Debug, Default)]
struct Table {
    /// Mostly one for each conf.
    places: HashMap<ConfId, Vec<Arc<Place>>>,
    sweep_at: usize,
    saved: HashMap<ConfId, (SavedState, Instant)>,
}

/// A conf with state.
#[derive(Debug)]
pub struct Stateful {
    /// Which.
    pub conf: ConfId,
    /// What was made of it.
    pub prepared: Arc<Prepared>,
    /// Takes over the state of its predecessor.
    pub heir: Arc<Heir>,
}

impl PreparedConfs {
    /// What `generation` makes, or has made, of a plugin's conf. Runs author code; may take long.
    ///
    /// # Errors
    /// The author's reason for a refusal.
    pub fn get(
        &self,
        generation: &Arc<Generation>,
        conf: &Conf,
        index: usize,
    ) -> Result<Arc<Prepared>, String> {
        let value = conf.plugins.get(index).map_or(&[][..], |conf| &conf.value);
        let id = id(conf, index);
        let place = self.place(id, generation.number, &conf.route_key);
        let mut made = lock(&place.made);
        if let Some(prepared) = made.upgrade() {
            return Ok(prepared);
        }
        let prepared = Arc::new(Prepared::new(generation, value, &conf.route_key)?);
        *made = Arc::downgrade(&prepared);
        if generation.about.state
            && let Some(predecessor) = self.predecessor(&id, generation.number)
        {
            place.heir.shall_take(Heritage::Conf(predecessor));
        }
        Ok(prepared)
    }

    /// Who takes over the state for what [`PreparedConfs::get`] has made.
    pub fn heir(&self, generation: &Generation, conf: &Conf, index: usize) -> Option<Arc<Heir>> {
        if !generation.about.state {
            return None;
        }
        let id = id(conf, index);
        let mut table = lock(&self.0);
        let mut places = table.places.get(&id)?.iter();
        let place = places.find(|place| place.generation == generation.number)?;
        let heir = Arc::clone(&place.heir);
        if let Some((saved, _)) = table.saved.remove(&id) {
            heir.may_take(Heritage::Saved(saved));
        }
        Some(heir)
    }

    /// The confs with state; each with what the newest generation has made of it.
    pub fn stateful(&self) -> Vec<Stateful> {
        let places: Vec<(ConfId, Vec<Arc<Place>>)> = {
            let table = lock(&self.0);
            let places = table.places.iter();
            places.map(|(id, places)| (*id, places.clone())).collect()
        };
        let newest = places.into_iter().filter_map(|(conf, places)| {
            let (prepared, heir) = newest(&places, None)?;
            prepared.generation().about.state.then_some(Stateful {
                conf,
                prepared,
                heir,
            })
        });
        newest.collect()
    }

    /// Takes the states of an earlier worker. Returns who takes over at once; the others are kept until their conf is made.
    pub fn inherit(&self, states: Vec<SavedState>) -> Vec<Inheritance> {
        let of = states.iter().map(|state| state.conf).collect::<Vec<_>>();
        // First: a conf that is made meanwhile looks for its state here.
        states.into_iter().for_each(|state| self.keep(state));
        let mut made: HashMap<ConfId, Stateful> = self
            .stateful()
            .into_iter()
            .map(|it| (it.conf, it))
            .collect();
        let heirs = of.into_iter().filter_map(|conf| {
            let Stateful { heir, prepared, .. } = made.remove(&conf)?;
            let (saved, _) = lock(&self.0).saved.remove(&conf)?;
            heir.may_take(Heritage::Saved(saved));
            Some((heir, prepared))
        });
        heirs.collect()
    }

    fn keep(&self, state: SavedState) {
        let mut table = lock(&self.0);
        let kept: usize = table.saved.values().map(|(kept, _)| kept.data.len()).sum();
        if kept + state.data.len() <= MOST {
            table.saved.insert(state.conf, (state, Instant::now()));
        }
    }

    /// Forgets the states whose confs have not come.
    pub fn expire(&self) {
        let now = Instant::now();
        lock(&self.0)
            .saved
            .retain(|_, (_, since)| now.saturating_duration_since(*since) < WAIT);
    }

    fn place(&self, id: ConfId, generation: u64, route_key: &str) -> Arc<Place> {
        let mut table = lock(&self.0);
        if table.places.len() >= table.sweep_at.max(FIRST_SWEEP) {
            table.places.retain(|_, places| {
                places.retain(is_held);
                !places.is_empty()
            });
            table.sweep_at = table.places.len() * 2;
        }
        let places = table.places.entry(id).or_default();
        if let Some(known) = places.iter().find(|place| place.generation == generation) {
            return Arc::clone(known);
        }
        places.retain(is_held);
        let place = Arc::new(Place {
            generation,
            made: Mutex::default(),
            heir: Arc::new(Heir::new(route_key)),
        });
        places.push(Arc::clone(&place));
        place
    }

    /// Whose state a conf takes over: that of the newest other generation.
    fn predecessor(&self, id: &ConfId, generation: u64) -> Option<Arc<Prepared>> {
        let places = lock(&self.0).places.get(id).cloned().unwrap_or_default();
        newest(&places, Some(generation)).map(|(prepared, _)| prepared)
    }
}

fn newest(places: &[Arc<Place>], but: Option<u64>) -> Option<(Arc<Prepared>, Arc<Heir>)> {
    let others = places.iter().filter(|place| Some(place.generation) != but);
    let alive = others.filter_map(|place| {
        // One that is being made has no state yet.
        let prepared = place.made.try_lock().ok()?.upgrade()?;
        Some((place.generation, prepared, Arc::clone(&place.heir)))
    });
    let (_, prepared, heir) = alive.max_by_key(|(generation, ..)| *generation)?;
    Some((prepared, heir))
}

/// Whether a chain holds what was made, or somebody is making it.
fn is_held(place: &Arc<Place>) -> bool {
    Arc::strong_count(place) > 1 || lock(&place.made).strong_count() > 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hash of the route, the plugin with its value, and how often the same stands before it in the chain.
fn id(conf: &Conf, index: usize) -> ConfId {
    let Some(plugin) = conf.plugins.get(index) else {
        return ConfId::default();
    };
    let before = conf.plugins.iter().take(index);
    let before = before.filter(|other| *other == plugin).count() as u64;
    let mut hash = Sha256::new();
    hash.update(before.to_le_bytes());
    for part in [route(&conf.route_key), &plugin.name] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&plugin.value);
    hash.finalize().into()
}

/// A route key without its version. Gateway (APISIX): `route#<id>#<plugin>#<version>`, where the version may have
/// further parts.
fn route(route_key: &str) -> &str {
    let mut parts = route_key.match_indices('#');
    parts.nth(2).map_or(route_key, |(at, _)| &route_key[..at])
}
