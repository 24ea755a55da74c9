//! Who belongs to a key. A key is compared in constant time: how long it takes says nothing about the keys there are.

use std::collections::HashMap;
use std::sync::Arc;

use plugin_api::{Error, Result, config};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A consumer and its keys.
#[config]
pub(crate) struct Consumer {
    /// Its name, for bindings, `acl` and the upstream (X-Consumer-Username).
    pub(crate) username: String,
    /// Its id, for the upstream (X-Consumer-ID).
    #[serde(default)]
    pub(crate) id: Option<String>,
    /// Its id elsewhere, for the upstream (X-Consumer-Custom-ID).
    #[serde(default)]
    pub(crate) custom_id: Option<String>,
    /// What it identifies itself with.
    #[serde(default)]
    pub(crate) keys: Vec<String>,
}

/// A key that somebody has.
pub(crate) struct Credential {
    digest: [u8; 32],
    /// Names the key without saying it: `anna#1`.
    pub(crate) id: String,
    pub(crate) consumer: Arc<Consumer>,
}

/// All keys.
#[derive(Default)]
pub(crate) struct Keys {
    /// By the first bytes of their digest, which say nothing about the key.
    credentials: HashMap<[u8; 8], Vec<Credential>>,
    consumers: Vec<Arc<Consumer>>,
}

impl Keys {
    /// # Errors
    /// Two consumers have the same key, or a key or a name is empty.
    pub(crate) fn new(consumers: impl IntoIterator<Item = Consumer>) -> Result<Self> {
        let mut keys = Self::default();
        for consumer in consumers {
            keys.add(Arc::new(consumer))?;
        }
        Ok(keys)
    }

    fn add(&mut self, consumer: Arc<Consumer>) -> Result<()> {
        let refused = |reason: &str| {
            let name = &consumer.username;
            Err(Error::new(format_args!("consumer `{name}`: {reason}")))
        };
        if consumer.username.is_empty() {
            return refused("its `username` is empty");
        }
        for (index, key) in consumer.keys.iter().enumerate() {
            if key.is_empty() {
                return refused("has an empty key");
            }
            if self.find(key.as_bytes()).is_some() {
                return refused(&format!("its key {} is in use already", index + 1));
            }
            let digest = digest(key.as_bytes());
            let credential = Credential {
                digest,
                id: format!("{}#{}", consumer.username, index + 1),
                consumer: Arc::clone(&consumer),
            };
            self.credentials
                .entry(head(&digest))
                .or_default()
                .push(credential);
        }
        self.consumers.push(consumer);
        Ok(())
    }

    /// Whose key it is.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Credential> {
        let digest = digest(key);
        let candidates = self.credentials.get(&head(&digest)).into_iter().flatten();
        let mut found = None;
        for candidate in candidates {
            if bool::from(candidate.digest.ct_eq(&digest)) {
                found = Some(candidate);
            }
        }
        found
    }

    /// The consumer of a name or id.
    pub(crate) fn consumer(&self, name: &str) -> Option<&Arc<Consumer>> {
        let is = |consumer: &&Arc<Consumer>| {
            consumer.username == name || consumer.id.as_deref() == Some(name)
        };
        self.consumers.iter().find(is)
    }
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn head(digest: &[u8; 32]) -> [u8; 8] {
    std::array::from_fn(|index| digest[index])
}
