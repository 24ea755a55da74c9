//! One connection on its event loop: from a frame to its reply, or to whoever goes on with it. Never waits.

use std::sync::Arc;

use super::connection::{Connection, Late, Phase, Step, Turn, error_frame};
use super::event_loop::{Busy, EventLoop};
use super::rest::AtRest;
use super::server::Shared;
use super::{buffers, event_loops, run};
use crate::protocol::frame::kind;
use crate::protocol::payload::Payload;
use crate::request::moment::Moment;
use crate::request::service::{Call, CallKind, ErrorCode, Placement, Service, Watched};

/// A connection and the loop that serves it.
pub(super) struct Serving<'a, S: Service> {
    pub(super) shared: &'a Arc<Shared<S>>,
    pub(super) home: &'a Arc<EventLoop<S::Call>>,
    pub(super) connection: &'a Arc<Connection<S::Call>>,
}

/// What came of a look at a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attended {
    /// It waits for bytes.
    Rests,
    /// There are more bytes: the other connections come first.
    Again,
    /// Its task has something to do.
    Handed,
}

impl<S: Service> Serving<'_, S> {
    /// Reads once and answers what is whole then. What cannot be done at once is left to the connection's task. `ended`: the
    /// peer has closed its side.
    #[inline]
    pub(super) fn attend(&self, ended: bool) -> Attended {
        let mut drained = true;
        let (home, at_rest) = (self.home.id, self.at_rest());
        let step = self.connection.arrived(home, at_rest, ended, &mut drained);
        let at_boundary = match step {
            Step::Read => true,
            Step::Frame {
                kind,
                payload,
                turn,
            } => self.answer(kind, payload, turn),
            other => self.ends(other),
        };
        match (at_boundary, drained) {
            (true, true) => Attended::Rests,
            (true, false) => Attended::Again,
            (false, _) => {
                self.connection.hand(drained);
                Attended::Handed
            }
        }
    }

    /// What its task would not find any more when it looks.
    #[cold]
    fn ends(&self, step: Step<S::Call>) -> bool {
        match step {
            Step::Failed { call } => buffers::give(call.finish(false)),
            Step::Give => self.give(),
            _ => {}
        }
        false
    }

    /// Passes on a connection that belongs to nobody.
    pub(super) fn give(&self) {
        if !self.shared.rest.give(self.connection) {
            event_loops::keep(self.shared, self.connection);
        }
    }

    pub(super) fn next(&self) -> Step<S::Call> {
        self.connection.next(self.home.id, self.at_rest())
    }

    pub(super) fn at_rest(&self) -> AtRest {
        self.shared.rest.mode()
    }

    /// Goes on with a call under the watchdog's eyes.
    pub(super) fn at_work<T>(&self, work: impl FnOnce(&Self) -> T) -> Step<S::Call> {
        let _busy = self.enter(Moment::now());
        work(self);
        self.next()
    }

    /// Notes that the loop is busy, until what is returned is dropped.
    pub(super) fn enter(&self, now: Moment) -> Busy<'_, S::Call> {
        self.home.enter(&self.shared.alarm, now)
    }

    /// Answers a frame. Whether the connection waits for bytes then, as another look at it would say.
    #[inline(always)]
    pub(super) fn answer(&self, kind: u8, payload: Payload, turn: Turn) -> bool {
        self.frame(kind, payload, turn) && self.at_rest() == AtRest::Stays
    }

    /// Answers a frame, or sees to it that it will be answered, on a loop that does not rest. Returns whether the connection is at a boundary again,
    /// as all methods below do.
    #[inline]
    fn frame(&self, kind: u8, payload: Payload, turn: Turn) -> bool {
        self.home.begin_call(turn.started);
        match kind {
            kind::HTTP_REQ_CALL => self.admit(CallKind::Request, payload, turn),
            kind::HTTP_RESP_CALL => self.admit(CallKind::Response, payload, turn),
            kind::PREPARE_CONF => {
                let mut out = buffers::take();
                self.shared.service.prepare_conf(&payload, &mut out);
                buffers::give(payload.into_buffer());
                self.connection.reply(turn, out).at_boundary
            }
            other => self.unknown(other, payload, turn),
        }
    }

    #[cold]
    fn unknown(&self, kind: u8, payload: Payload, turn: Turn) -> bool {
        buffers::give(payload.into_buffer());
        if let Some(before) = self.shared.faults.admit(&format!("kind {kind}")) {
            tracing::warn!(
                kind,
                before,
                "the gateway sent a frame of a kind that has no meaning here: answered with ERROR"
            );
        }
        let error = error_frame(ErrorCode::BadRequest);
        self.connection.reply(turn, error).at_boundary
    }

    #[inline]
    fn admit(&self, kind: CallKind, payload: Payload, turn: Turn) -> bool {
        match self.shared.service.admit(kind, payload, turn.started) {
            Ok(call) if call.is_plain() => run::run(self.connection, turn, call, &self.home.blame),
            Ok(call) => self.begin(call, turn),
            Err(refused) => {
                buffers::give(refused.payload.into_buffer());
                let error = error_frame(refused.code);
                self.connection.reply(turn, error).at_boundary
            }
        }
    }

    /// Waits for what is pending of the call; else goes on with it.
    #[inline(never)]
    fn begin(&self, mut call: S::Call, turn: Turn) -> bool {
        match call.pending() {
            None => self.ask(call, turn),
            Some(_) => {
                let call = Box::new(call);
                self.park(turn, Phase::Pending { call, turn }, Vec::new())
            }
        }
    }

    /// Asks what the call has declared that it needs; with no needs it runs.
    pub(super) fn ask(&self, mut call: S::Call, turn: Turn) -> bool {
        let mut questions = Vec::new();
        match call.questions(&mut questions) {
            0 => self.place(call, turn),
            left => {
                let call = Box::new(call);
                self.park(turn, Phase::Answers { call, turn, left }, questions)
            }
        }
    }

    fn park(&self, turn: Turn, phase: Phase<S::Call>, questions: Vec<u8>) -> bool {
        let answered_meanwhile = self.connection.park(turn, phase, questions);
        if let Err(Phase::Pending { call, .. } | Phase::Answers { call, .. }) = answered_meanwhile {
            buffers::give(call.finish(false));
        }
        false
    }

    /// Runs the call here, or has a thread run it.
    pub(super) fn place(&self, call: S::Call, turn: Turn) -> bool {
        let placement = call.placement();
        let inline = matches!(placement, Placement::Inline);
        let watched = call.watched();
        let wanted = self.connection.running(turn, |running| {
            running.inline = inline;
            running.watched = Some(watched);
        });
        match placement {
            _ if !wanted => {
                buffers::give(call.finish(false));
                false
            }
            Placement::Inline => run::run(self.connection, turn, call, &self.home.blame),
            Placement::Threads(permits) => {
                let connection = Arc::clone(self.connection);
                let threads = &self.shared.threads;
                threads.dispatch(connection, turn, call, permits);
                false
            }
        }
    }

    /// Ends what has taken too long.
    pub(super) fn time_up(&self) -> Step<S::Call> {
        let _busy = self.enter(Moment::now());
        self.expire(self.connection.time_up(self.home.id));
        self.next()
    }

    /// Tells those who care that a call was not answered in time.
    fn expire(&self, late: Late<S::Call>) {
        match late {
            Late::Nothing => {}
            Late::Waiting { call, turn } => {
                call.watched().expired(None, turn.started.elapsed());
                buffers::give(call.finish(false));
            }
            Late::Running(running) => {
                let blame = running.blame.as_deref();
                let plain = || self.shared.service.watched(blame?);
                if let Some(watched) = running.watched.or_else(plain) {
                    watched.expired(blame, running.turn.started.elapsed());
                }
            }
        }
    }
}
