//! The checked configuration: what the rest of the runner reads. Never looks at a file or the
//! environment after [`load`] returned.
//!
//! `yaml` holds the file as written, `keys` says which keys exist, `field` reads one value,
//! `load` puts file, environment and arguments together.

mod bindings;
mod fault;
mod field;
mod keys;
mod load;
mod names;
#[cfg(test)]
mod tests;
mod units;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use bindings::{At, Binding, Scope, bindings};
pub use fault::{Fault, Faults, Position};
pub use load::{Environment, Sources, load};

/// The socket's path if neither the environment nor the file names one (the Python runner's too).
pub const DEFAULT_SOCKET: &str = "/tmp/runner.sock";

/// Everything that can be configured, checked. Goes from the supervisor to the worker as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The file it was read from, absolute; `None` if there was no file.
    pub file: Option<PathBuf>,
    pub socket: Socket,
    pub logging: Logging,
    pub plugins: Plugins,
    pub bindings: Bindings,
    pub calls: Calls,
    pub worker: Worker,
    pub state: State,
    pub tokens: Tokens,
    /// Tell what each plugin did in each call. No key of the file: `start --steps`, which `dev` uses.
    #[serde(default)]
    pub steps: bool,
}

/// Where the gateway connects, and who may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// Absolute, without the gateway's `unix:` prefix, at most 107 bytes.
    pub file: PathBuf,
    /// Permission bits of the socket. 0o766 by default: an nginx worker runs as another user.
    pub mode: u32,
    /// User name or id that shall own the socket; `None` leaves it ours.
    pub owner: Option<String>,
    /// Group name or id of the socket; `None` leaves it ours.
    pub group: Option<String>,
    /// User names or ids that may connect, beside our own user, root and nobody.
    pub peers: Vec<String>,
}

/// What is logged, how, and where to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Logging {
    pub level: Level,
    pub format: Format,
    /// Absolute; `None` logs to stderr. Opened again on SIGUSR1.
    pub file: Option<PathBuf>,
}

/// How much is logged: this level and all before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    Error = 1,
    Warn = 2,
    #[default]
    Info = 3,
    Debug = 4,
    Trace = 5,
}

impl Level {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Coloured text on a terminal, plain text otherwise.
    #[default]
    Auto,
    /// One line of plain text per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which libraries serve, and what they are given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plugins {
    /// The plugins folder, absolute; `None` if neither file nor `--plugins` names one.
    pub dir: Option<PathBuf>,
    /// Plugin name → file name in `dir`, for when several libraries offer one plugin.
    pub files: BTreeMap<String, String>,
    /// Only these plugins; `None` means all.
    pub enabled: Option<Vec<String>>,
    /// Never these plugins. Wins over `enabled`.
    pub disabled: Vec<String>,
    /// Only libraries with these sha256 sums (64 lower-case hex digits); `None` means all.
    pub allow: Option<Vec<String>>,
    /// Plugin name → what its `init_worker` finds as settings.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Plugin name → what its failure means; a plugin not named here fails closed.
    pub on_failure: BTreeMap<String, OnFailure>,
    /// Whether changes in `dir` are taken up while running.
    pub hot_reload: bool,
    /// Accept a folder and files that others than the runner's owner may write.
    pub allow_writable: bool,
    /// How long the first call waits for the libraries at start.
    pub load_deadline: Duration,
    /// A build that ends the worker this often …
    pub quarantine_crashes: usize,
    /// … within this time is not loaded any more: what served before it takes over.
    pub quarantine_window: Duration,
    /// How long opening, starting and each conf of a library may take in its probe.
    pub probe_deadline: Duration,
}

/// What a call gets when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// An ERROR reply: 503 at the client.
    #[default]
    Error,
    /// The call goes on without the plugin; logged and counted.
    Skip,
}

/// Where plugins are bound to routes, services and consumers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bindings {
    /// Absolute. `None`: `bindings.yaml` beside the configuration file, if there is one.
    pub file: Option<PathBuf>,
}

/// Limits of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calls {
    /// A call that has no answer by then is answered with an ERROR.
    pub deadline: Duration,
    /// The same when we are asked to stop, counted from then; also for handing over connections.
    pub stop_deadline: Duration,
}

/// The process that runs the plugins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// User it runs as. `None`: as root it becomes nobody, otherwise nothing changes.
    pub user: Option<String>,
    /// Bytes of memory it may take (RLIMIT_DATA); `None` sets no limit.
    pub memory_limit: Option<u64>,
    /// Event loops, each a thread. 1 to 256.
    pub event_loops: usize,
    /// Blocking threads at most, over all plugins. 1 to 65,536.
    pub threads: usize,
    /// Blocking threads that one plugin may hold at most. 1 to `threads`.
    pub threads_per_plugin: usize,
    /// It is recycled when it holds this many builds that serve no more.
    pub recycle_generations: usize,
    /// It is recycled when it takes this many bytes (resident); `None`: three quarters of `memory_limit`, if there is one.
    pub recycle_memory: Option<u64>,
    /// It is recycled when this many of its threads are still in a call after its deadline.
    pub recycle_stuck_threads: usize,
    /// At least this long after it was recycled for one of these reasons.
    pub recycle_interval: Duration,
}

/// Where the runner keeps what outlives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Absolute. [`load`] fills in the default place; `None` when there is no such place: private
    /// memory then.
    pub dir: Option<PathBuf>,
}

/// Conf tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    /// Live tokens at most; a further PREPARE_CONF is refused.
    pub max: usize,
    /// How long after its last use a token is kept. 1.2 × the gateway's own expiry by default.
    pub expire: Duration,
}

/// How `start` shall run, beside the configuration: what only makes sense on a command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Everything in one process, for debuggers.
    pub no_supervisor: bool,
    /// Leave when the parent process ends, whatever it is. Without it that holds for a gateway.
    pub exit_with_parent: bool,
}

impl Config {
    /// Where the bindings stand. One that was not named need not be there.
    pub fn bindings_file(&self) -> Option<PathBuf> {
        let beside = || Some(self.file.as_ref()?.with_file_name("bindings.yaml"));
        self.bindings.file.clone().or_else(beside)
    }

    /// Reads the bindings.
    ///
    /// # Errors
    /// All faults at once.
    pub fn read_bindings(&self) -> Result<Vec<Binding>, Faults> {
        match self.bindings_file() {
            Some(file) if self.bindings.file.is_some() || file.exists() => bindings(&file),
            _ => Ok(Vec::new()),
        }
    }
}

impl Default for Socket {
    fn default() -> Self {
        Self {
            file: PathBuf::from(DEFAULT_SOCKET),
            mode: 0o766,
            owner: None,
            group: None,
            peers: Vec::new(),
        }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            dir: None,
            files: BTreeMap::new(),
            enabled: None,
            disabled: Vec::new(),
            allow: None,
            settings: BTreeMap::new(),
            on_failure: BTreeMap::new(),
            hot_reload: true,
            allow_writable: false,
            load_deadline: Duration::from_secs(10),
            probe_deadline: Duration::from_secs(5),
            quarantine_crashes: 3,
            quarantine_window: Duration::from_secs(60),
        }
    }
}

impl Plugins {
    /// What a failure of this plugin means for its call.
    pub fn on_failure(&self, plugin: &str) -> OnFailure {
        self.on_failure.get(plugin).copied().unwrap_or_default()
    }

    /// Whether this plugin may serve, as `enabled` and `disabled` say.
    pub fn wants(&self, plugin: &str) -> bool {
        let enabled = self.enabled.as_ref();
        let is_in = |names: &Vec<String>| names.iter().any(|name| name == plugin);
        enabled.is_none_or(is_in) && !is_in(&self.disabled)
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            // Gateway: SIGKILL comes 1 s after SIGTERM.
            stop_deadline: Duration::from_millis(600),
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            user: None,
            memory_limit: None,
            event_loops: 1,
            threads: 512,
            threads_per_plugin: 64,
            recycle_generations: 100,
            recycle_memory: None,
            recycle_stuck_threads: 32,
            recycle_interval: Duration::from_secs(600),
        }
    }
}

impl Worker {
    /// Resident bytes from which on it is recycled.
    pub fn recycle_memory(&self) -> Option<u64> {
        let share = |limit: u64| limit / 4 * 3;
        self.recycle_memory.or(self.memory_limit.map(share))
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            max: 1_000_000,
            expire: Duration::from_secs(4320),
        }
    }
}
