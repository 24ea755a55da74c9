//! What PREPARE_CONF says: the plugins of a route, in order, with their values.

use sha2::{Digest, Sha256};

use crate::protocol::message::{Malformed, PrepareConf};

/// Everything behind one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    /// The gateway's key, `route#<id>#<plugin>#<version>`; bytes that are not UTF-8 replaced.
    pub route_key: String,
    /// The plugins, in the gateway's order.
    pub plugins: Vec<PluginConf>,
}

/// One plugin's configuration on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConf {
    /// The plugin's name.
    pub name: String,
    /// Its value, as the gateway sent it; empty when it sent none.
    pub value: Vec<u8>,
}

impl Conf {
    /// Reads the payload of PREPARE_CONF.
    ///
    /// # Errors
    /// The payload cannot be read.
    pub fn read(payload: &[u8]) -> Result<Self, Malformed> {
        let message = PrepareConf::parse(payload)?;
        let plugins = message.conf.iter().map(|entry| PluginConf {
            name: String::from_utf8_lossy(entry.name).into_owned(),
            value: entry.value.unwrap_or_default().to_vec(),
        });
        Ok(Self {
            route_key: String::from_utf8_lossy(message.key).into_owned(),
            plugins: plugins.collect(),
        })
    }

    /// The same for the same key and plugins in every worker, and for no other.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(self.route_key.as_bytes());
        for plugin in &self.plugins {
            add(plugin.name.as_bytes());
            add(&plugin.value);
        }
        hash.finalize().into()
    }
}
