//! The state machine of a connection. Every method is called under the connection's lock and returns at once.

mod ending;
mod writing;

use std::mem;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use rustix::net::Shutdown;

use super::Turn;
use super::output::{Flushed, Unwritten, error_frame, send, unread};
use super::step::{Event, Exchange, Late, Phase, Running, Step, wait};
use crate::protocol::frame;
use crate::protocol::payload::Payload;
use crate::request::moment::Moment;
use crate::request::service::{Call, ErrorCode};
use crate::rpc::buffers;
use crate::rpc::event_loop::{LoopId, NOBODY};
use crate::rpc::input::{Filled, Input};
use crate::rpc::rest::AtRest;

/// How long the gateway may take to read a reply: its own read timeout is as long.
const SLOW_READER: Duration = Duration::from_secs(60);

/// Bytes of a reply that are written in one turn on an event loop: a fraction of a millisecond.
const FLUSHED_AT_ONCE: usize = 1 << 20;

/// How long a gateway whose exchange was broken off may take to close.
const LEAVING: Duration = Duration::from_secs(1);

/// A new connection is not closed by a drain before it is this old or has made a call: one that connects brings one.
const NEW: Duration = Duration::from_millis(50);

/// A connection's state.
pub(in crate::rpc) struct State<C: Call> {
    /// The loop whose task serves it; the task of any other loop leaves.
    pub(in crate::rpc) owner: LoopId,
    pub(in crate::rpc) phase: Phase<C>,
    /// Of the task, while it waits for something of this connection.
    pub(in crate::rpc) waker: Option<Waker>,
    /// Of the task, while the connection is the poller's to read: between two calls only.
    pub(in crate::rpc) parked: Option<Waker>,
    /// Bytes may have come that the task has not read.
    pub(in crate::rpc) readable: bool,
    /// The gateway has closed its side: behind the last byte there is an end to be read.
    pub(in crate::rpc) ended: bool,
    input: Input,
    unwritten: Option<Unwritten>,
    /// Number of the last frame.
    sequence: u64,
    accepted: Moment,
}

impl<C: Call> State<C> {
    pub(in crate::rpc) fn new(owner: LoopId) -> Self {
        Self {
            owner,
            phase: Phase::Idle,
            waker: None,
            parked: None,
            readable: false,
            ended: false,
            input: Input::default(),
            unwritten: None,
            sequence: 0,
            accepted: Moment::now(),
        }
    }

    /// Between two calls, with nothing read and nothing left to write: here, and only here, the connection can be
    /// closed or given to another process without a trace.
    pub(in crate::rpc) fn at_boundary(&self) -> bool {
        matches!(self.phase, Phase::Idle) && self.input.is_empty() && self.unwritten.is_none()
    }

    /// See [`Step`]. Takes the next frame if one is whole.
    #[inline(always)]
    pub(in crate::rpc) fn next(
        &mut self,
        socket: BorrowedFd<'_>,
        deadline: Duration,
        at_rest: AtRest,
    ) -> Step<C> {
        match &mut self.phase {
            Phase::Idle => {
                if let Some(unwritten) = &self.unwritten {
                    return wait(Event::Writable, unwritten.since + SLOW_READER);
                }
                if let Some((kind, payload)) = self.input.next() {
                    return self.begin(kind, payload, deadline);
                }
                match at_rest {
                    AtRest::IsGiven if self.give() => Step::Give,
                    AtRest::Closes if self.close_if_idle(socket) => Step::Leave,
                    _ => Step::Read,
                }
            }
            Phase::Running(running) => wait(Event::Answered(running.turn), running.turn.deadline),
            Phase::Pending { call, turn } => match call.pending() {
                Some(ready) => wait(Event::Configured(ready), turn.deadline),
                None => self.resume(),
            },
            Phase::Answers { .. } => self.next_answer(socket),
            Phase::Leaving { until } => wait(Event::Readable, *until),
            Phase::Closed => Step::Leave,
        }
    }

    /// Reads once, then says what to do.
    #[inline]
    pub(in crate::rpc) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        deadline: Duration,
        at_rest: AtRest,
        drained: &mut bool,
    ) -> Step<C> {
        match self.fill(socket) {
            Filled::Some { drained: all } => *drained = all && !self.ended,
            Filled::Nothing => *drained = true,
            Filled::End => return self.ended(socket),
        }
        self.next(socket, deadline, at_rest)
    }

    /// Bytes have come for the task to read, or for nobody: then it leaves.
    pub(in crate::rpc) fn note_arrival(&mut self) {
        self.readable = true;
        if let Some(parked) = &self.parked {
            parked.wake_by_ref();
        }
        self.wake();
    }

    #[inline]
    fn begin(&mut self, kind: u8, payload: Payload, deadline: Duration) -> Step<C> {
        let started = Moment::now();
        self.sequence += 1;
        let turn = Turn {
            sequence: self.sequence,
            started,
            deadline: started + deadline,
        };
        // Nothing is lost with Idle; a call less than dropping it.
        mem::forget(mem::replace(
            &mut self.phase,
            Phase::Running(Running::new(turn)),
        ));
        Step::Frame {
            kind,
            payload,
            turn,
        }
    }

    /// Takes a waiting call off the connection, to go on with it.
    fn resume(&mut self) -> Step<C> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Pending { call, turn } => {
                self.phase = Phase::Running(Running::new(turn));
                Step::Configured { call, turn }
            }
            Phase::Answers { call, turn, .. } => {
                self.phase = Phase::Running(Running::new(turn));
                Step::Answered { call, turn }
            }
            other => {
                self.phase = other;
                Step::Leave
            }
        }
    }

    fn next_answer(&mut self, socket: BorrowedFd<'_>) -> Step<C> {
        loop {
            let Phase::Answers { call, turn, left } = &mut self.phase else {
                return Step::Leave;
            };
            let deadline = turn.deadline;
            if *left == 0 {
                // Questions are small, so this is a gateway that answers what it was not asked yet.
                return match self.unwritten {
                    Some(_) => wait(Event::Writable, deadline),
                    None => self.resume(),
                };
            }
            let code = match self.input.next() {
                None => {
                    let either = self.unwritten.as_ref().map(|_| Event::Either);
                    return wait(either.unwrap_or(Event::Readable), deadline);
                }
                Some((frame::kind::EXTRA_INFO, answer)) => match call.answer(answer) {
                    Ok(()) => {
                        *left -= 1;
                        continue;
                    }
                    Err(code) => code,
                },
                Some(_) => ErrorCode::BadRequest,
            };
            // With answers still to come, or a gateway that talks out of turn, nobody knows whose turn it is.
            return self.fail(socket, code);
        }
    }

    /// Answers a waiting call with ERROR and leaves the gateway: the exchange is broken off.
    fn fail(&mut self, socket: BorrowedFd<'_>, code: ErrorCode) -> Step<C> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Pending { call, .. } => {
                self.write(socket, error_frame(code));
                Step::Failed { call }
            }
            Phase::Answers { call, .. } => {
                self.write(socket, error_frame(code));
                self.leave(socket);
                Step::Failed { call }
            }
            other => {
                self.phase = other;
                Step::Leave
            }
        }
    }

    /// Answers a call that waits for its confs: nobody configures them any more.
    pub(in crate::rpc) fn never_configured(&mut self, socket: BorrowedFd<'_>) -> Step<C> {
        match self.phase {
            Phase::Pending { .. } => self.fail(socket, ErrorCode::ServiceUnavailable),
            _ => Step::Leave,
        }
    }

    /// Reads once. What comes after the last reply is thrown away.
    pub(in crate::rpc) fn fill(&mut self, socket: BorrowedFd<'_>) -> Filled {
        let filled = self.input.fill(socket);
        if matches!(self.phase, Phase::Leaving { .. }) {
            self.input = Input::default();
        }
        filled
    }

    /// The next frame of the exchange that a running call has open.
    pub(in crate::rpc) fn take_answer(&mut self) -> Option<(u8, Payload)> {
        self.input.next()
    }

    /// The gateway has closed.
    pub(in crate::rpc) fn ended(&mut self, socket: BorrowedFd<'_>) -> Step<C> {
        if !self.input.is_empty() {
            tracing::debug!("the gateway closed a connection inside a frame");
        }
        match self.close(socket) {
            Some(call) => Step::Failed { call },
            None => Step::Leave,
        }
    }

    /// The running frame, if it is that of `turn` and still unanswered.
    pub(in crate::rpc) fn running(&mut self, turn: Turn) -> Option<&mut Running<C>> {
        match &mut self.phase {
            Phase::Running(running) if running.turn.sequence == turn.sequence => Some(running),
            _ => None,
        }
    }

    /// See [`super::Connection::time_up`].
    pub(in crate::rpc) fn time_up(&mut self, socket: BorrowedFd<'_>, now: Moment) -> Late<C> {
        match &self.phase {
            Phase::Running(running) if running.turn.deadline <= now => self.expire_running(socket),
            Phase::Pending { turn, .. } | Phase::Answers { turn, .. } if turn.deadline <= now => {
                let turn = *turn;
                match self.fail(socket, ErrorCode::ServiceUnavailable) {
                    Step::Failed { call } => Late::Waiting { call, turn },
                    _ => Late::Nothing,
                }
            }
            Phase::Leaving { until } if *until <= now => {
                self.close(socket);
                Late::Nothing
            }
            Phase::Idle
                if self
                    .unwritten
                    .as_ref()
                    .is_some_and(|left| left.since + SLOW_READER <= now) =>
            {
                tracing::debug!(
                    "the gateway did not read its reply for {SLOW_READER:?}: connection closed"
                );
                self.close(socket);
                Late::Nothing
            }
            _ => Late::Nothing,
        }
    }

    fn expire_running(&mut self, socket: BorrowedFd<'_>) -> Late<C> {
        let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Late::Nothing;
        };
        match running.exchange {
            Exchange::None => {
                self.write(socket, error_frame(ErrorCode::ServiceUnavailable));
            }
            Exchange::Open => {
                self.write(socket, error_frame(ErrorCode::ServiceUnavailable));
                self.leave(socket);
            }
            Exchange::Asking => {
                self.close(socket);
            }
        }
        Late::Running(running)
    }

    /// Wakes the task that waits for something of this connection.
    pub(in crate::rpc) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
