//! The border between the process side and the side that runs plugin code: what a worker does when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Binding, Config, Level};
use crate::plugins::metadata::About;
use crate::request::assign::{AssignToken, Stay};
use crate::supervise::admin::message::LastError;

/// Where plugin code is loaded and calls are served: the inside of a worker.
pub trait Workshop: Send + Sync + 'static {
    /// Loads a library and replaces the generation that this file had before.
    ///
    /// Runs on a thread of its own, one library after the other unless one takes long; author code may take seconds in
    /// it.
    ///
    /// # Errors
    /// A [`Refusal`], when nothing of what served has changed.
    fn load(&self, library: &Library) -> Result<Vec<LoadedPlugin>, Refusal>;

    /// Loads an older build that serves no plugin, but for confs that its successor refuses: those that [`Self::stays`]
    /// names. As `load` otherwise.
    ///
    /// # Errors
    /// A [`Refusal`]: those confs fail.
    fn load_older(&self, library: &Library) -> Result<Vec<LoadedPlugin>, Refusal>;

    /// Takes the older builds with which an earlier worker served the plugins of a chain (by the digest of its confs),
    /// before this one serves. Runs on the control thread.
    fn stays(&self, conf: Sha256, on: Vec<Stay>);

    /// Lets nothing run this generation any more: confs that stay on it fail. Runs on the loader thread.
    fn forbid(&self, generation: u64);

    /// Retires what this file (its path in the folder) offers. Runs on the loader thread, after earlier loads.
    fn unload(&self, file: &Path);

    /// Takes a configuration that an earlier worker knew, by its PREPARE_CONF payload. Runs on the control thread:
    /// must not wait for author code.
    fn conf(&self, token: u32, payload: Vec<u8>);

    /// Takes bindings, instead of those there were. Runs on the control thread: must not wait for author code.
    fn bind(&self, bindings: Vec<Binding>);

    /// Starts to accept connections and returns, after waiting for the confs for at most `settle`. At most once, on a
    /// thread of its own. `served`: the file that served each plugin in the worker before, where several offer one. `states`:
    /// where the states of its confs can be had.
    ///
    /// # Errors
    /// When threads or descriptors cannot be had; the worker then ends.
    fn serve(
        &self,
        listener: OwnedFd,
        served: &Served,
        settle: Duration,
        states: Option<OwnedFd>,
    ) -> io::Result<()>;

    /// Gives the states of confs to the worker that asks for them over `to`. Runs on a thread of its own.
    fn export_states(&self, to: OwnedFd);

    /// Serves the connections that come from another process over `from` until that has no more; before `serve` they wait.
    /// Runs on the control thread and returns at once; `hand_over` after it gives them away as well.
    ///
    /// # Errors
    /// There is no thread to be had.
    fn adopt(&self, from: OwnedFd) -> io::Result<()>;

    /// Accepts nothing more and gives each connection away over `to` when it is between two calls; returns when there is
    /// none left or the time is over, or when nobody takes them: what is left is then served as before. `listener`: if it
    /// was not told to serve, to give away what waits there; otherwise the server is waited for, as it may just be starting.
    /// Runs on a thread of its own.
    fn hand_over(&self, to: OwnedFd, listener: Option<OwnedFd>, within: Duration) -> HandedOver;

    /// Accepts what waits in the backlog, then nothing more; returns when all calls are answered or the time is over. Waits
    /// for the server, as it may just be starting.
    fn drain(&self, within: Duration);

    /// Changes how much is logged, here and in the plugins.
    fn set_level(&self, level: Level);

    /// Threads that are still in a call after its deadline. Runs on the control thread.
    fn stuck_threads(&self) -> usize;

    /// How the worker is; `described`: with what the authors say of the plugins. Runs on a thread of its own; reads /proc.
    fn report(&self, described: bool) -> Report;
}

/// What became of connections that were to be given to another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// The other process has them.
    pub passed: usize,
    /// Answered with ERROR and closed: they were in the middle of something when the time was over.
    pub cut: usize,
    /// Nobody took them: those that are left are served as before.
    pub broken: bool,
}

/// Plugin name → the library's file in the folder.
pub type Served = BTreeMap<String, PathBuf>;

/// Makes the inside of a worker. Called once per process, after privileges were dropped.
pub type Factory =
    dyn Fn(Config, Arc<dyn AssignToken>) -> anyhow::Result<Arc<dyn Workshop>> + Send + Sync;

/// The inside of a probe: where a library's code runs first, in a process that is thrown away. One library, one thread;
/// any of these may crash, hang or end the process.
pub trait Examine {
    /// Sees whether the library fits, before any of its code runs.
    ///
    /// # Errors
    /// Why not.
    fn check(&mut self, library: &Library) -> Result<(), Refusal>;

    /// Opens it: its constructors run. After `check`.
    ///
    /// # Errors
    /// It cannot be opened, or is no plugin of this ABI.
    fn open(&mut self) -> Result<(), Refusal>;

    /// Runs `init_worker`. After `open`.
    ///
    /// # Errors
    /// The author's reason.
    fn start(&mut self) -> Result<Vec<LoadedPlugin>, Refusal>;

    /// Configures what this PREPARE_CONF payload has for the library's plugins. After `start`.
    ///
    /// # Errors
    /// The author's reason.
    fn configure(&mut self, payload: &[u8]) -> Result<(), String>;

    /// Drops everything that author code has made; returns when that is done.
    fn finish(&mut self);
}

/// Makes the inside of a probe. Called once per process, after privileges were dropped.
pub type Examiner = dyn Fn(Config) -> Box<dyn Examine> + Send + Sync;

/// One build of a library, ready to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// Counts the builds that this supervisor has seen; from 1.
    pub generation: u64,
    /// Its path in the plugins folder, for people.
    pub file: PathBuf,
    /// The private copy to open: a path never used before in this process.
    pub path: PathBuf,
    /// Hash of the copy.
    pub sha256: Sha256,
}

/// A sha256 sum; 64 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Sha256(pub [u8; 32]);

/// A plugin that a library offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedPlugin {
    /// Its name in route configurations.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// Its place in chains that are ordered by priority.
    pub priority: i32,
    /// The phases that it has.
    pub phases: Vec<String>,
}

/// How a worker is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Open connections.
    pub connections: usize,
    /// Event loops whose threads are stuck in a plugin.
    pub stuck_loops: usize,
    /// Bindings that serve.
    pub bindings: usize,
    /// Log lines, and calls to be logged by plugins, for which there was no room.
    pub log_lines_dropped: u64,
    pub log_calls_dropped: u64,
    /// All that this worker has loaded, those too that nothing uses any more.
    pub generations: Vec<GenerationReport>,
}

/// How a generation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationReport {
    /// Its number.
    pub generation: u64,
    /// The plugin's name.
    pub plugin: String,
    /// New confs go to it.
    pub serving: bool,
    /// Confs that it serves.
    pub confs: usize,
    /// Phases that ran, that failed, and that panicked among those.
    pub calls: u64,
    pub errors: u64,
    pub panics: u64,
    /// The newest failure.
    pub last_error: Option<LastError>,
    /// Bytes of its code and static data in memory.
    pub memory: u64,
    /// `None` unless it was asked for.
    pub described: Option<Described>,
}

/// What its author says of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Of the plugin.
    pub about: About,
    /// The JSON Schema of its confs, null when it has none.
    pub schema: Value,
}

/// Why a library does not serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong, without the file's name.
    pub cause: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<Sha256> for String {
    fn from(sum: Sha256) -> Self {
        sum.to_string()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digit = |b: u8| char::from(b).to_digit(16);
        let mut sum = [0; 32];
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(format!("`{text}` is not a sha256 sum"));
        }
        for (to, pair) in sum.iter_mut().zip(bytes.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(format!("`{text}` is not a sha256 sum"));
            };
            *to = (high << 4 | low) as u8;
        }
        Ok(Self(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_survives_text() {
        let sum = Sha256(std::array::from_fn(|n| n as u8 * 7));
        assert_eq!(Sha256::try_from(sum.to_string()), Ok(sum));
        assert!(Sha256::try_from("ab".repeat(31) + "é").is_err());
    }
}
