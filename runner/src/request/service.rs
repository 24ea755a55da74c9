//! The border between the socket side (`rpc`) and the request side (`request`).
//!
//! `rpc` knows threads, deadlines and sockets and nothing of plugins; `request` knows plugins and nothing of
//! sockets. They meet in the four traits here, so each can be tested with a small double of the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::moment::Moment;
pub use crate::plugins::blame::Blame;
use crate::protocol::payload::Payload;

/// The two messages that start a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// HTTP_REQ_CALL: from ext-plugin-pre-req and ext-plugin-post-req.
    Request,
    /// HTTP_RESP_CALL: from ext-plugin-post-resp.
    Response,
}

/// The codes of an ERROR frame (protocol: `A6.Err.Code`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The frame could not be read.
    BadRequest,
    /// A plugin could not run: the gateway answers 503.
    ServiceUnavailable,
    /// The gateway drops all its tokens, prepares again and repeats the call, three times at most.
    ConfTokenNotFound,
}

/// Everything a connection asks of the rest of the runner. One value serves all connections and threads.
pub trait Service: Send + Sync + 'static {
    /// A call between its frame and its reply.
    type Call: Call;

    /// Answers PREPARE_CONF: appends exactly one reply frame (PREPARE_CONF or ERROR) to `out`.
    ///
    /// Runs on the event loop and takes well under a millisecond: no author code runs in it.
    fn prepare_conf(&self, payload: &[u8], out: &mut Vec<u8>);

    /// Takes the payload of a call, which was whole at `now`. Runs on the event loop.
    ///
    /// # Errors
    /// [`Refused`] when no plugin needs to run to know the answer: payload unreadable, token unknown. Already logged.
    fn admit(&self, kind: CallKind, payload: Payload, now: Moment) -> Result<Self::Call, Refused>;

    /// A handle for the watchdog and the deadline of a call that [is plain](Call::is_plain), and runs on the thread of
    /// this `blame` now. `None` if it has ended meanwhile.
    fn watched(&self, blame: &Blame) -> Option<<Self::Call as Call>::Watched>;
}

/// A call that is answered by an ERROR frame at once.
#[derive(Debug)]
pub struct Refused {
    /// What to answer.
    pub code: ErrorCode,
    /// The buffer given to `admit`, to be used again.
    pub payload: Payload,
}

/// One call. It owns its frame and the generations it started with, and may move between threads until it runs.
pub trait Call: Send + 'static {
    /// What outlives the call on its own thread: asked when it is slow or past its deadline.
    type Watched: Watched;

    /// Whether it may run on the event loop at once: nothing of it is pending, it asks nothing before it runs, and who it
    /// belongs to can be told from the blame of its thread. Then only [`Call::run`] and [`Call::finish`] follow.
    fn is_plain(&self) -> bool;

    /// `Some` while a conf of the chain is still being configured: wait until the value is `true`, then ask again.
    fn pending(&mut self) -> Option<watch::Receiver<bool>>;

    /// Appends the EXTRA_INFO frames of all declared needs to `out`; returns how many answers will come, in order.
    fn questions(&mut self, out: &mut Vec<u8>) -> usize;

    /// Takes the payload of the next EXTRA_INFO answer to [`Call::questions`].
    ///
    /// # Errors
    /// When the payload cannot be read: the call is then answered with an ERROR of that code.
    fn answer(&mut self, payload: Payload) -> Result<(), ErrorCode>;

    /// Where the plugin code of this call may run. Asked once, after the last answer.
    fn placement(&self) -> Placement;

    /// A handle for the watchdog and the deadline.
    fn watched(&self) -> Self::Watched;

    /// Runs the chain and appends exactly one reply frame to `out`. Never unwinds. `blame` belongs to this thread.
    fn run(&mut self, deadline: Moment, blame: &Blame, ask: &mut dyn Ask, out: &mut Vec<u8>);

    /// The reply that `run` has made, where it is none of `out`'s bytes: it goes out in their place.
    fn long_reply(&mut self) -> Option<LongReply> {
        None
    }

    /// Bytes of the frames that it holds until it is finished.
    fn holds(&self) -> usize {
        0
    }

    /// Ends the call, after its reply was written or dropped (`answered` false); gives the payload buffer back.
    fn finish(self, answered: bool) -> Vec<u8>;
}

/// A reply frame in a block that it does not begin with.
#[derive(Debug)]
pub struct LongReply {
    /// The block.
    pub bytes: Vec<u8>,
    /// Where the frame begins in it; it ends with the block.
    pub from: usize,
}

/// Where plugin code may run.
#[derive(Debug)]
pub enum Placement {
    /// On the event loop.
    Inline,
    /// On a blocking thread, with a permit of each of these, all or none.
    Threads(Vec<Arc<Semaphore>>),
}

/// What remains reachable of a call while its own thread is busy or stuck in it.
pub trait Watched: Clone + Send + Sync + 'static {
    /// The call has held up an event loop for `elapsed`: once per call, when its loop has been replaced.
    fn slow(&self, blame: &Blame, elapsed: Duration);

    /// The deadline has passed and the gateway was answered with ERROR. `blame` is `None` when no plugin code ran yet.
    fn expired(&self, blame: Option<&Blame>, elapsed: Duration);
}

/// Asks the gateway in the middle of a call (EXTRA_INFO). Blocks the thread, at most until the call's deadline.
pub trait Ask {
    /// Writes one EXTRA_INFO frame (`question`, header included) and returns the payload of the answer.
    ///
    /// # Errors
    /// The gateway left, broke the protocol, or the deadline passed: the call cannot be answered any more.
    fn ask(&mut self, question: &[u8]) -> Result<Payload, AskError>;
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The gateway closed the connection in the middle of the call.
    #[error("the gateway closed the connection before it answered")]
    Closed,
    /// The gateway sent something else than an EXTRA_INFO frame.
    #[error("the gateway sent something else than an answer to EXTRA_INFO")]
    Protocol,
    /// The call has ended, and was answered.
    #[error(
        "the gateway has its answer already: declare what `log` needs with #[needs(…)], or ask in an earlier phase"
    )]
    Over,
    /// The call's deadline passed.
    #[error("the call's deadline passed before the gateway answered")]
    Deadline,
}
