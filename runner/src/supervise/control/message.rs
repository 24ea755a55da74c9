//! What the supervisor and its workers and probes say to each other. All are the same build, so there is no version in
//! it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Level};
use crate::request::assign::Stay;
use crate::supervise::accounts::Identity;
use crate::supervise::workshop::{
    HandedOver, Library, LoadedPlugin, Refusal, Report, Served, Sha256,
};
use crate::telemetry::Style;

/// From the supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToWorker {
    /// The first message. Descriptors: the listening socket, then the pipe for finished log lines.
    Start(Box<Start>),
    /// Load this library; answered by `Loaded` or `Refused`, in order. A descriptor comes with it if the copy lives in
    /// private memory: `library.path` is then empty.
    Load(Library),
    /// As `Load`, for a build that an earlier worker had and that only confs need which its successor refuses.
    LoadOlder(Library),
    /// An earlier worker served the plugins of this chain (by the digest of its confs) with these older builds. Before
    /// `Serve`.
    Stays { conf: Sha256, on: Vec<Stay> },
    /// Nothing may run this generation any more: confs that stay on it fail.
    Forbid { generation: u64 },
    /// This file is gone from the folder: what it offered ends.
    Unload(PathBuf),
    /// A configuration that another worker knew first. Tail: its PREPARE_CONF payload. Answered by `Known` if it has a
    /// sequence.
    Conf { token: u32, sequence: Option<u64> },
    /// The answer to `Prepare`.
    Token {
        sequence: u64,
        token: Result<u32, String>,
    },
    /// Plugins are bound like this from now on. Tail: the bindings as JSON.
    Bindings,
    /// Accept connections from now on, once the confs are ready, for which `settle` is given; answered by `Serving`.
    /// `served`: the file that served each plugin in the worker before. A descriptor comes with it if that still lives: over
    /// it the states of its confs are asked for before calls come.
    Serve { served: Served, settle: Duration },
    /// Give the states of confs to whoever asks for them over the descriptor.
    ExportStates,
    /// Serve the connections that come over the descriptor, also before `Serve`.
    Adopt,
    /// Accept nothing more, give the connections away over the descriptor, each at a call boundary; answered by
    /// `HandedOver`.
    HandOver { within: Duration },
    /// Say what hangs; answered by `Pulse`.
    Pulse,
    /// Log up to this level from now on.
    LogLevel(Level),
    /// Say how you are, and on demand what the authors of your plugins say; answered by `Report`.
    Report { sequence: u64, described: bool },
    /// Accept what waits in the backlog and nothing more, finish all calls, answer `Drained` and leave.
    Drain { within: Duration },
}

/// What a worker needs before anything else.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// The whole configuration.
    pub config: Config,
    /// Who to become; `None` changes nothing.
    pub identity: Option<Identity>,
    /// Process id of the supervisor.
    pub supervisor: u32,
    /// The form of log lines: the supervisor knows whether a terminal shows them.
    pub style: Style,
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// It has given up its privileges and takes orders.
    Ready,
    /// The library of this generation serves.
    Loaded {
        generation: u64,
        plugins: Vec<LoadedPlugin>,
    },
    /// The library of this generation does not serve; an earlier one goes on.
    Refused { generation: u64, refusal: Refusal },
    /// It accepts connections.
    Serving,
    /// The conf of this sequence is known: calls with its token may come.
    Known { sequence: u64 },
    /// What became of its connections.
    HandedOver(HandedOver),
    /// Threads that are still in a call after its deadline.
    Pulse { stuck_threads: usize },
    /// A token is needed. Tail: the PREPARE_CONF payload.
    Prepare { sequence: u64 },
    /// The token expired.
    Forget { token: u32 },
    /// The plugins of this chain (by the digest of its confs) stay on these older builds from now on.
    Stays { conf: Sha256, on: Vec<Stay> },
    /// How it is.
    Report { sequence: u64, report: Report },
    /// All calls are finished.
    Drained,
}

/// From the supervisor to a probe: one question after the other, each answered before the next.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToProbe {
    /// The first message. Descriptors: the pipe for finished log lines, then the copy if it lives in private memory.
    Examine(Box<Examination>),
    /// Configure this. Tail: the PREPARE_CONF payload. Answered by `Configured`.
    Conf,
    /// Drop everything and leave. Answered by `Finished`.
    Finish,
}

/// What a probe needs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Examination {
    /// As for a worker.
    pub start: Start,
    /// What to examine.
    pub library: Library,
}

/// From a probe. Each is sent before the next thing is done, so that it tells how far it came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromProbe {
    /// The metadata fits; the constructors run next.
    Opening,
    /// `init_worker` runs next.
    Opened,
    /// It has started; the confs come next.
    Started(Vec<LoadedPlugin>),
    /// A conf was configured, or refused for this reason.
    Configured(Result<(), String>),
    /// It said no; nothing follows.
    Refused(Refusal),
    /// Everything was dropped; nothing follows.
    Finished,
}
