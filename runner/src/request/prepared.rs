//! What was made of confs, as long as a chain holds it.
//!
//! The gateway gives a route a new key whenever anything is edited (APISIX standalone: any route), and with it new
//! tokens. A conf that comes again unchanged gets what was made of it before: a limiter keeps counting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sha2::{Digest, Sha256};

use super::conf::Conf;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;

/// Entries before the first look for those that nobody holds any more.
const FIRST_SWEEP: usize = 1024;

/// All of them, by what they were made of.
#[derive(Debug, Default)]
pub struct PreparedConfs(Mutex<Table>);

type Key = [u8; 32];
/// Locked while it is being made, so that it is made once.
type Place = Arc<Mutex<Weak<Prepared>>>;

#[derive(Debug, Default)]
struct Table {
    places: HashMap<Key, Place>,
    sweep_at: usize,
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
        let place = self.place(key(generation.number, conf, index));
        let mut made = lock(&place);
        if let Some(prepared) = made.upgrade() {
            return Ok(prepared);
        }
        let prepared = Arc::new(Prepared::new(generation, value, &conf.route_key)?);
        *made = Arc::downgrade(&prepared);
        Ok(prepared)
    }

    fn place(&self, key: Key) -> Place {
        let mut table = lock(&self.0);
        if table.places.len() >= table.sweep_at.max(FIRST_SWEEP) {
            table.places.retain(|_, place| is_held(place));
            table.sweep_at = table.places.len() * 2;
        }
        Arc::clone(table.places.entry(key).or_default())
    }
}

/// Whether a chain holds what was made, or somebody is making it.
fn is_held(place: &Place) -> bool {
    Arc::strong_count(place) > 1 || lock(place).strong_count() > 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hash of the generation, the route, the plugin's value, and how often the same stands before it in the chain.
fn key(generation: u64, conf: &Conf, index: usize) -> Key {
    let Some(plugin) = conf.plugins.get(index) else {
        return Key::default();
    };
    let before = conf.plugins.iter().take(index);
    let before = before.filter(|other| *other == plugin).count() as u64;
    let route = route(&conf.route_key);
    let mut hash = Sha256::new();
    hash.update(generation.to_le_bytes());
    hash.update(before.to_le_bytes());
    hash.update((route.len() as u64).to_le_bytes());
    hash.update(route);
    hash.update(&plugin.value);
    hash.finalize().into()
}

/// A route key without its version. Gateway (APISIX): `route#<id>#<plugin>#<version>`, where the version may have
/// further parts.
fn route(route_key: &str) -> &str {
    let mut parts = route_key.match_indices('#');
    parts.nth(2).map_or(route_key, |(at, _)| &route_key[..at])
}
