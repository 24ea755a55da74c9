//! What a rehearsal and the process that wants it say to each other, and what comes of it. All are the same build.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dev::frames::Asked;
use crate::plugins::instance::Purpose;
use crate::request::step::Step;
use crate::supervise::control::message::Start;
use crate::supervise::workshop::{Library, LoadedPlugin, Refusal};

/// Each is answered before the next, but for `Answer`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToRehearsal {
    /// The first message. Descriptors: the pipe for log lines, the memory that says whose code runs.
    Begin(Box<Start>),
    /// Open and start this. Descriptor: its copy. Answered by `Opening`, then `Started` or `Refused`.
    Library(Box<Library>, Purpose),
    /// Take these bindings. Tail: a JSON array of them. Not answered.
    Bindings,
    /// Configure these. Tail: the PREPARE_CONF payload. Answered by `Configured`.
    Conf,
    /// What the gateway answers to this. Tail: the answer. Not answered.
    Answer(Asked),
    /// Run this call. Tail: its payload. Answered by a `Step` for each phase, then `Called`.
    Call { response: bool },
    /// Run the same call again, as often as that, until this many milliseconds have passed. Answered by `Timed`.
    Again { times: u32, within_ms: u64 },
    /// Drop everything and leave.
    Finish,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromRehearsal {
    Started(Box<Started>),
    Refused(Refusal),
    Configured(Configured),
    Step(Step),
    /// Tail: the frame.
    Called(Called),
    Timed(Timed),
}

/// A library that has started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// What it offers.
    pub plugin: LoadedPlugin,
    /// What may stand in its configuration; null if it reads the bytes itself.
    pub schema: Value,
    /// Nanoseconds that opening it took.
    pub opened_ns: u64,
    /// Nanoseconds that `init_worker` took.
    pub started_ns: u64,
}

/// The chain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Configured {
    /// Nanoseconds that all took together.
    pub took_ns: u64,
    /// Each plugin of the chain, with the reason if it cannot run.
    pub plugins: Vec<(String, Option<String>)>,
    /// For each binding, in their order, the reason if its plugin cannot run with it.
    pub bound: Vec<Option<String>>,
}

/// The call as a whole.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Called {
    /// Nanoseconds from the whole frame to the reply.
    pub took_ns: u64,
    /// What was asked before the first phase, as it was declared.
    pub declared: Vec<String>,
}

/// The same call again.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Timed {
    /// How often.
    pub calls: u32,
    /// Nanoseconds of half of them at most.
    pub median_ns: u64,
    /// Nanoseconds of the slowest.
    pub slowest_ns: u64,
}
