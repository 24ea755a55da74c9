//! What can be asked of a running supervisor, and what it answers. Both ends may be different builds: unknown fields are
//! ignored, missing ones have a default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::Level;
use crate::supervise::workshop::Described;

/// A question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// How it is.
    Status,
    /// The same, with what their authors say of the plugins.
    Plugins,
    /// Look at the configuration and at the plugins folder again; load this plugin again even if its file is unchanged.
    /// Answered when nothing is under way any more.
    Reload { plugin: Option<String> },
    /// Load the quarantined builds of this plugin, or of the file of this name, again.
    Release { plugin: String },
    /// Let a new worker take over from the one that serves. Answered when the old one is gone, or after a minute.
    Recycle,
    /// Serve the connections that come over the descriptor. From a runner that had our socket's path before us.
    TakeConnections,
    /// Let the build before serve this plugin again, until a new file comes or somebody says otherwise.
    RollBack { plugin: String },
    /// Do not load the build that serves this plugin any more: the build before takes over, or its calls fail.
    Quarantine { plugin: String },
    /// Log up to this level from now on, until the next restart.
    LogLevel { level: Level },
}

/// An answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// To `Status` and `Plugins`.
    Status(Box<Status>),
    /// What was done, a line each.
    Done { lines: Vec<String> },
    /// What was asked for was not done, or not wholly: a line for each fault.
    Failed { lines: Vec<String> },
}

/// How a runner is. Times are seconds since 1970, sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Calls are answered.
    pub ready: bool,
    pub runner: Runner,
    /// `None` while there is no worker.
    pub worker: Option<Worker>,
    /// The worker before it, which finishes its calls.
    pub leaving: Option<Worker>,
    pub recycles: Recycles,
    pub tokens: Tokens,
    pub bindings: Bindings,
    /// By name.
    pub plugins: Vec<Plugin>,
    /// The files of the plugins folder.
    pub libraries: Vec<LibraryFile>,
}

/// The supervisor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Runner {
    pub pid: u32,
    pub version: String,
    pub abi: String,
    pub started_at: u64,
    pub uptime_seconds: u64,
    pub config: Option<PathBuf>,
    pub socket: PathBuf,
    pub plugins_dir: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub log_level: Level,
    /// Log lines for which there was no room, since the start.
    pub log_lines_dropped: u64,
}

/// The process that runs the plugins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    pub pid: u32,
    /// Counts the workers of this runner.
    pub number: u64,
    pub uptime_seconds: u64,
    /// It accepts connections.
    pub serving: bool,
    /// It told about itself in time: what it alone knows is missing otherwise.
    pub answers: bool,
    pub connections: usize,
    /// Event loops whose threads are stuck in a plugin.
    pub stuck_loops: usize,
    /// Resident.
    pub memory_bytes: Option<u64>,
    /// Log lines for which there was no room, and calls that no `log` phase has seen for want of room.
    pub log_lines_dropped: u64,
    pub log_calls_dropped: u64,
}

/// How often a new worker has taken over from one that served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recycles {
    pub done: u64,
    /// The old worker went on instead, or ended before it had finished its calls.
    pub failed: u64,
    pub last: Option<Recycled>,
}

/// One recycle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recycled {
    /// When it was over.
    pub at: u64,
    pub reason: String,
    /// From the start of the new worker to the end of the old one.
    pub took_ms: u64,
    /// What went wrong.
    pub fault: Option<String>,
}

/// Conf tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    pub live: usize,
    pub max: usize,
}

/// Which plugins are bound to routes, services and consumers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bindings {
    /// Where they stand, if anywhere.
    pub file: Option<PathBuf>,
    /// As many as were read last.
    pub read: usize,
    /// As many as serve: others, while those that were read last are configured or are refused.
    pub serving: usize,
    /// Why the file as it is now is not taken up.
    pub fault: Option<String>,
}

/// A plugin that a loaded library offers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugin {
    pub name: String,
    pub version: String,
    pub priority: i32,
    /// Those that it has.
    pub phases: Vec<String>,
    pub generation: u64,
    pub file: PathBuf,
    pub sha256: String,
    /// What serves is not what the file holds now, but a copy of what has served before.
    pub last_good: bool,
    pub loaded_at: u64,
    /// `serving`, or `standing by` while another library serves the name.
    pub state: String,
    /// Routes whose configuration this generation serves.
    pub confs: usize,
    /// Phases that ran, that failed, and that panicked among those.
    pub calls: u64,
    pub errors: u64,
    pub panics: u64,
    pub last_error: Option<LastError>,
    pub retained: Retained,
    /// `None` unless it was asked for and the worker answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub described: Option<Described>,
}

/// The newest failure of a phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastError {
    pub text: String,
    pub at: u64,
}

/// Earlier generations whose code is still in the worker's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retained {
    pub generations: usize,
    /// Those among them that still serve confs, which the newest one refused.
    pub serving_confs: usize,
    /// Resident, without what they have on the heap.
    pub memory_bytes: u64,
}

/// A file of the plugins folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LibraryFile {
    pub file: PathBuf,
    /// `serving`, `copying`, `probing`, `loading`, `waiting` for another probe, `refused`, `quarantined` (or rolled back)
    /// or `gone`.
    pub state: String,
    /// What serves, if something does, perhaps an earlier state of the file.
    pub generation: Option<u64>,
    pub sha256: Option<String>,
    /// What serves was taken from a last good copy.
    pub last_good: bool,
    /// When that copy served, if an earlier runner has kept it.
    pub last_good_served_at: Option<u64>,
    /// Why the file as it is now does not serve.
    pub cause: Option<String>,
    pub hint: Option<String>,
}
