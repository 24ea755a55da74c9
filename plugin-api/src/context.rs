//! What `init_worker` and `configure` are told.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// What an instance is made for.
///
/// ```
/// # use plugin_api::{InitContext, Purpose, Result};
/// # struct Mine;
/// # impl Mine {
/// fn init_worker(context: &InitContext) -> Result<Self> {
///     if context.purpose() == Purpose::Serve {
///         // Only here: a thread that reports somewhere, a port, a registration.
///     }
///     Ok(Self)
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Purpose {
    /// To see whether the library works, in a process that is thrown away. Leave exclusive things (a port, a lock
    /// file) alone.
    Probe,
    /// To serve calls. The predecessor may still be serving: take exclusive things with a retry.
    #[default]
    Serve,
    /// To report on the library for a person, at the command line.
    Check,
}

/// What `init_worker` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct InitContext {
    purpose: Purpose,
    settings: Value,
    generation: u64,
    pub(crate) level: u32,
}

impl InitContext {
    /// What the instance is made for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The plugin's part of the runner's configuration, `plugins.settings.NAME`; `{}` when there is none.
    ///
    /// # Errors
    /// The settings do not fit `T`.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let settings = match &self.settings {
            Value::Null => Value::Object(serde_json::Map::new()),
            settings => settings.clone(),
        };
        serde_path_to_error::deserialize(settings)
            .map_err(|error| Error::from(error).context("plugins.settings"))
    }

    /// The number of this generation (one loaded build of the library) in the runner's log and status.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn read(json: &[u8]) -> Result<Self> {
        Ok(serde_json::from_slice(json)?)
    }
}

/// What `configure` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ConfContext {
    purpose: Purpose,
    route_key: String,
}

impl ConfContext {
    /// The gateway's key of the configuration: for APISIX `route#<id>#<plugin>#<version>`. Bytes that are not UTF-8
    /// are replaced by U+FFFD. What is made of the conf may go on serving it under a later version of its key.
    pub fn route_key(&self) -> &str {
        &self.route_key
    }

    /// What the instance was made for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub(crate) fn read(json: &[u8]) -> Result<Self> {
        Ok(serde_json::from_slice(json)?)
    }
}

/// The state of one conf, on its way to its successor in another generation or process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// The author's version of the form of `data`.
    pub version: u32,
    /// The state; an empty one is as good as none.
    pub data: Vec<u8>,
}

impl State {
    /// Bytes that a state may have: 1 MiB. A larger one is dropped, with a warning.
    pub const MAX_LEN: usize = 1 << 20;

    /// A state in the form that the author calls `version`.
    pub fn new(version: u32, data: impl Into<Vec<u8>>) -> Self {
        Self {
            version,
            data: data.into(),
        }
    }
}
