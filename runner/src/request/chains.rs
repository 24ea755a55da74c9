//! All chains, by token.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::chain::Chain;
use super::conf::Conf;

/// The chains of all live tokens. A call reads it once.
#[derive(Debug, Default)]
pub struct Chains(RwLock<ByToken>);

type ByToken = HashMap<u32, Arc<Chain>, BuildHasherDefault<Spread>>;

/// Hashes a token. We choose them ourselves, so nobody can make them collide; what comes from a digest is spread
/// already but for the ends that the table looks at.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, token: u32) {
        // 2^64 divided by the golden ratio (Knuth, multiplicative hashing).
        self.0 = (self.0 ^ u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A token was assigned twice.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token stands for another configuration already: this is a fault of the runner")]
pub struct Taken;

impl Chains {
    /// Looks at the chain behind a token; `look` is short, as those who add chains wait for it.
    pub fn with<T>(&self, token: u32, look: impl FnOnce(&Arc<Chain>) -> T) -> Option<T> {
        self.read().get(&token).map(look)
    }

    /// Adds a chain, unless its token is known. Returns the new one, which is to be assembled.
    ///
    /// # Errors
    /// The token stands for another configuration, which keeps it.
    pub fn add(&self, token: u32, conf: Conf) -> Result<Option<Arc<Chain>>, Taken> {
        let mut chains = self.write();
        if let Some(known) = chains.get(&token) {
            known.touch();
            return if *known.conf == conf {
                Ok(None)
            } else {
                Err(Taken)
            };
        }
        let chain = Arc::new(Chain::new(token, conf));
        chains.insert(token, Arc::clone(&chain));
        Ok(Some(chain))
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Chain>> {
        self.read().values().cloned().collect()
    }

    /// The chains in which a conf names a plugin.
    pub fn naming(&self, plugin: &str) -> Vec<Arc<Chain>> {
        self.read()
            .values()
            .filter(|chain| chain.names(plugin))
            .cloned()
            .collect()
    }

    /// Takes away the chains that were not used for this long. Returns them.
    pub fn expire(&self, unused_for: Duration) -> Vec<Arc<Chain>> {
        let now = Instant::now();
        let old = |chain: &Chain| now.saturating_duration_since(chain.last_used(now)) > unused_for;
        let tokens: Vec<u32> = self
            .read()
            .values()
            .filter(|chain| old(chain))
            .map(|chain| chain.token)
            .collect();
        let mut gone = Vec::new();
        for token in tokens {
            let mut chains = self.write();
            // It may have been used since.
            if chains.get(&token).is_some_and(|chain| old(chain)) {
                gone.extend(chains.remove(&token));
            }
        }
        gone
    }

    fn read(&self) -> RwLockReadGuard<'_, ByToken> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, ByToken> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_comes_to_mean_another_configuration() {
        let chains = Chains::default();
        let conf = |route_key: &str| Conf {
            route_key: route_key.to_owned(),
            plugins: Vec::new(),
        };
        assert!(chains.add(7, conf("route#1")).unwrap().is_some());
        assert!(chains.add(7, conf("route#1")).unwrap().is_none());
        assert_eq!(chains.add(7, conf("route#2")).unwrap_err(), Taken);
        let kept = chains.with(7, |chain| Conf::clone(&chain.conf));
        assert_eq!(kept, Some(conf("route#1")));
    }
}
