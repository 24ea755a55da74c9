//! What PREPARE_CONF says: the plugins of a route, in order, with their values.

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
}
