//! What a connection can be doing, and what its task can have to do next. Types only.

use std::sync::Arc;

use tokio::sync::watch;

use super::Turn;
use crate::protocol::payload::Payload;
use crate::request::moment::Moment;
use crate::request::service::{Blame, Call};

/// What a connection is doing.
pub(in crate::rpc) enum Phase<C: Call> {
    /// Between two calls, or inside a frame: [`super::State::at_boundary`] tells.
    Idle,
    /// A call waits until its confs are configured.
    Pending { call: Box<C>, turn: Turn },
    /// A call waits for the answers to its declared questions.
    Answers {
        call: Box<C>,
        turn: Turn,
        left: usize,
    },
    /// A frame is being answered, here or on another thread.
    Running(Running<C>),
    /// The last reply is written; what still comes is thrown away until the gateway closes.
    Leaving { until: Moment },
    /// Over.
    Closed,
}

/// What is known of a frame that is being answered.
pub(in crate::rpc) struct Running<C: Call> {
    pub(in crate::rpc) turn: Turn,
    /// On the owning event loop itself, which is then busy with it.
    pub(in crate::rpc) inline: bool,
    /// `None` before the call was admitted, and of a call that is plain: then its thread's blame tells.
    pub(in crate::rpc) watched: Option<C::Watched>,
    /// Of the thread that runs it; `None` before plugin code runs, and inline until the loop is replaced.
    pub(in crate::rpc) blame: Option<Arc<Blame>>,
    /// A question of the call's own.
    pub(in crate::rpc) exchange: Exchange,
}

impl<C: Call> Running<C> {
    pub(in crate::rpc) fn new(turn: Turn) -> Self {
        Self {
            turn,
            inline: true,
            watched: None,
            blame: None,
            exchange: Exchange::None,
        }
    }
}

/// How far a question in the middle of a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rpc) enum Exchange {
    /// None is open.
    None,
    /// Part of it may have been written: nothing else can be said on this connection.
    Asking,
    /// Its answer will come: the connection cannot be used for another call before that.
    Open,
}

/// What the connection's task has to do next. Calls that wait are boxed: a step is moved several times, and hardly any
/// call waits.
pub(in crate::rpc) enum Step<C: Call> {
    /// Wait for bytes, as long as it takes.
    Read,
    /// Answer this frame.
    Frame {
        kind: u8,
        payload: Payload,
        turn: Turn,
    },
    /// The confs of this call are ready: ask its questions, if any.
    Configured { call: Box<C>, turn: Turn },
    /// All questions are answered: run it.
    Answered { call: Box<C>, turn: Turn },
    /// The call was answered with ERROR, or cannot be answered any more: end it.
    Failed { call: Box<C> },
    /// Wait for something until a time.
    Wait(Wait),
    /// It belongs to nobody: pass it on.
    Give,
    /// The connection is closed, or another loop's.
    Leave,
}

/// Why a task goes on that has left its connection to the poller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rpc) enum Parked {
    /// Bytes came before it could.
    Readable,
    /// There is something that the poller cannot do.
    Handed,
}

/// What to wait for, and until when.
#[derive(Debug)]
pub(in crate::rpc) struct Wait {
    pub(in crate::rpc) event: Event,
    pub(in crate::rpc) until: Moment,
}

/// What to wait for.
#[derive(Debug)]
pub(in crate::rpc) enum Event {
    /// The call of this turn is answered.
    Answered(Turn),
    /// The value is `true`.
    Configured(watch::Receiver<bool>),
    Readable,
    Writable,
    Either,
}

/// What was ended because its time was up.
pub(in crate::rpc) enum Late<C: Call> {
    Nothing,
    /// A call that no thread had: it is to be finished.
    Waiting {
        call: Box<C>,
        turn: Turn,
    },
    /// A call that another thread has and will finish.
    Running(Running<C>),
}

/// A step that waits.
pub(super) fn wait<C: Call>(event: Event, until: Moment) -> Step<C> {
    Step::Wait(Wait { event, until })
}
