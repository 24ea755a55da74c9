//! Conf tokens: which number stands for which configuration. A token never comes to mean another configuration.
//!
//! Lives in the supervisor, so that a worker's crash forgets nothing. Keeps the payloads in memory for the next
//! worker; on disk only digests.

mod file;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::Digest as _;

use self::file::TokenFile;
use super::state::StateDir;
use crate::protocol::message::PrepareConf;

/// sha256 over the canonical form of a configuration.
type Digest = [u8; 32];

/// Values tried for a configuration whose token is taken. Even at a million tokens one in 4,000 is taken.
const SALTS: u32 = 64;

/// All assignments.
#[derive(Debug)]
pub struct Tokens {
    known: HashMap<u32, Known>,
    by_digest: HashMap<Digest, u32>,
    /// How many of `known` have a payload.
    live: usize,
    max: usize,
    expire: Duration,
    file: Option<TokenFile>,
    /// Bits of a digest that make a token: fewer only in tests, for collisions.
    mask: u32,
}

#[derive(Debug)]
struct Known {
    digest: Digest,
    /// `None`: assigned by an earlier runner, not asked for since.
    payload: Option<Arc<[u8]>>,
    /// Seconds since 1970 when the file was told last.
    written: u64,
}

/// Why there is no token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The payload cannot be read.
    #[error("the payload cannot be read: {0}")]
    Malformed(String),
    /// The configured bound. A live token is never given up for another.
    #[error("all {0} conf tokens are in use; raise tokens.max, or remove routes")]
    Full(usize),
    /// Practically impossible.
    #[error("no free conf token was found")]
    Taken,
}

impl Tokens {
    /// Takes up what earlier runners assigned. Without a folder, or with an unreadable file, memory is all there is.
    pub fn open(max: usize, expire: Duration, state: Option<&StateDir>) -> Self {
        let mut tokens = Self {
            known: HashMap::new(),
            by_digest: HashMap::new(),
            live: 0,
            max,
            expire,
            file: None,
            mask: u32::MAX,
        };
        let Some(state) = state else { return tokens };
        match TokenFile::open(state, expire, unix_time()) {
            Ok((file, assigned)) => {
                tokens.file = Some(file);
                for line in assigned {
                    tokens.remember(line.token, line.digest, None, line.written);
                }
            }
            Err(cause) => tracing::warn!(
                cause = %cause,
                hint = "move the file away; until then a restart of the runner may assign other tokens",
                "conf tokens are kept in memory only: {} is not used",
                state.path().join(file::NAME).display()
            ),
        }
        tokens
    }

    /// The token of the configuration in a PREPARE_CONF payload.
    ///
    /// # Errors
    /// When the payload cannot be read or the bound is reached.
    pub fn assign(&mut self, payload: Vec<u8>) -> Result<u32, TokenError> {
        let digest = digest(&payload)?;
        let known = self.by_digest.get(&digest).copied();
        let live = known.is_some_and(|token| self.known[&token].payload.is_some());
        if !live && self.live >= self.max {
            return Err(TokenError::Full(self.max));
        }
        let token = match known {
            Some(token) => token,
            None => self.free_token(&digest).ok_or(TokenError::Taken)?,
        };
        let written = self.known.get(&token).map_or(0, |known| known.written);
        let written = self.write(token, &digest, written);
        self.remember(token, digest, Some(payload.into()), written);
        Ok(token)
    }

    /// Drops a token that nobody can hold any more.
    pub fn forget(&mut self, token: u32) {
        if let Some(known) = self.known.remove(&token) {
            self.by_digest.remove(&known.digest);
            self.live -= usize::from(known.payload.is_some());
        }
    }

    /// The PREPARE_CONF payload of a token.
    pub fn payload(&self, token: u32) -> Option<&[u8]> {
        self.known.get(&token)?.payload.as_deref()
    }

    /// How many tokens have a configuration, and how many may have.
    pub fn count(&self) -> (usize, usize) {
        (self.live, self.max)
    }

    /// Every token that was asked for since the start, and its PREPARE_CONF payload.
    pub fn live(&self) -> impl Iterator<Item = (u32, &Arc<[u8]>)> {
        self.known
            .iter()
            .filter_map(|(token, known)| Some((*token, known.payload.as_ref()?)))
    }

    fn free_token(&self, digest: &Digest) -> Option<u32> {
        (0..SALTS)
            .map(|salt| candidate(digest, salt) & self.mask)
            .find(|token| *token != 0 && !self.known.contains_key(token))
    }

    /// Tells the file, unless it was told not long ago; gives the time it was told last.
    fn write(&mut self, token: u32, digest: &Digest, written: u64) -> u64 {
        let now = unix_time();
        let Some(file) = &mut self.file else {
            return now;
        };
        if now.saturating_sub(written) < self.expire.as_secs() / 2 {
            return written;
        }
        if let Err(cause) = file.append(token, digest, now) {
            tracing::warn!(
                cause = %cause,
                hint = "make room in state.dir and start the runner again",
                "conf tokens are kept in memory only from now on"
            );
            self.file = None;
        }
        now
    }

    fn remember(&mut self, token: u32, digest: Digest, payload: Option<Arc<[u8]>>, written: u64) {
        self.live += usize::from(payload.is_some());
        self.by_digest.insert(digest, token);
        let known = Known {
            digest,
            payload,
            written,
        };
        if let Some(before) = self.known.insert(token, known) {
            self.live -= usize::from(before.payload.is_some());
        }
    }
}

/// The hash of what a configuration says; not of its bytes, which may say the same in other ways.
fn digest(payload: &[u8]) -> Result<Digest, TokenError> {
    let prepare =
        PrepareConf::parse(payload).map_err(|error| TokenError::Malformed(error.to_string()))?;
    let mut hash = sha2::Sha256::new();
    let part = |hash: &mut sha2::Sha256, bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&mut hash, prepare.key);
    for entry in prepare.conf.iter() {
        hash.update([1]);
        part(&mut hash, entry.name);
        match entry.value {
            None => hash.update([0]),
            Some(value) => {
                hash.update([1]);
                part(&mut hash, value);
            }
        }
    }
    Ok(hash.finalize().into())
}

fn candidate(digest: &Digest, salt: u32) -> u32 {
    let digest: Digest = match salt {
        0 => *digest,
        _ => {
            let salted = sha2::Sha256::new().chain_update(digest);
            salted.chain_update(salt.to_le_bytes()).finalize().into()
        }
    };
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d])
}

fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
