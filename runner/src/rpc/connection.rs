//! One connection of the gateway: what has arrived, what it is doing, what is still to be written.
//!
//! All of it lives outside the event loops, behind one lock that is never held over plugin code. So another thread
//! can give a connection to another loop at any moment, and the first of {the call's own thread, its deadline} to
//! take the lock writes the one reply. This file never waits and never runs plugin code.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::event_loop::{LoopId, NOBODY};
use super::rest::AtRest;
use crate::request::moment::Moment;
use crate::request::service::{Blame, Call};

mod output;
mod state;
mod step;

pub(super) use output::{Flushed, error_frame, send};
pub(super) use state::State;
pub(super) use step::{Event, Exchange, Late, Parked, Phase, Running, Step, Wait};

/// The right to answer one frame. It ends with the first reply or at the deadline, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Number of the frame on its connection, from 1.
    pub(super) sequence: u64,
    /// When the frame was whole.
    pub(super) started: Moment,
    /// When the gateway is answered with ERROR instead.
    pub(super) deadline: Moment,
}

/// What a reply came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Replied {
    /// It went out, and nothing was sent for this frame before.
    pub(super) sent: bool,
    /// All of it is written, and nothing of the next frame is here.
    pub(super) at_boundary: bool,
}

/// One connection. `C` is the call that may be under way on it.
pub(super) struct Connection<C: Call> {
    /// Number of the connection in this process.
    pub(super) id: u64,
    socket: OwnedFd,
    /// Time that a call has, from its whole frame to its reply.
    deadline: Duration,
    state: Mutex<State<C>>,
}

impl<C: Call> Connection<C> {
    pub(super) fn new(id: u64, socket: OwnedFd, owner: LoopId, deadline: Duration) -> Self {
        Self {
            id,
            socket,
            deadline,
            state: Mutex::new(State::new(owner)),
        }
    }

    /// The state. A panic elsewhere leaves it usable: whoever panicked closes the connection.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What the task on `home` has to do now.
    pub(super) fn next(&self, home: LoopId, at_rest: AtRest) -> Step<C> {
        let mut state = self.lock();
        if state.owner != home {
            return Step::Leave;
        }
        state.next(self.socket(), self.deadline, at_rest)
    }

    /// Reads once, then says what to do. Sets `drained` if the socket is known to be empty. (Not part of what is
    /// returned: a step is large, and would be moved once more for every call.)
    pub(super) fn receive(&self, home: LoopId, at_rest: AtRest, drained: &mut bool) -> Step<C> {
        let mut state = self.lock();
        if state.owner != home {
            return Step::Leave;
        }
        let step = state.receive(self.socket(), self.deadline, at_rest, drained);
        state.readable = !*drained;
        step
    }

    /// Bytes have come, or an end: as [`Connection::receive`], if the connection is the poller's to read. Otherwise its
    /// task is told, and there is nothing to do.
    #[inline]
    pub(super) fn arrived(
        &self,
        home: LoopId,
        at_rest: AtRest,
        ended: bool,
        drained: &mut bool,
    ) -> Step<C> {
        let mut state = self.lock();
        state.ended |= ended;
        // A call that runs reads for itself: it may wait for an answer in the middle.
        let runs = matches!(state.phase, Phase::Running(_));
        if state.owner != home || state.parked.is_none() || runs {
            state.note_arrival();
            return Step::Read;
        }
        state.receive(self.socket(), self.deadline, at_rest, drained)
    }

    /// Gives the connection from the poller to its task, which looks at once; `drained` as the last read has said.
    pub(super) fn hand(&self, drained: bool) {
        let mut state = self.lock();
        state.readable |= !drained;
        if let Some(parked) = state.parked.take() {
            parked.wake();
        }
    }

    /// Leaves the connection to the poller. Ready when it is handed over, or at once when bytes came that nobody has read
    /// yet. `waits`: this was polled before.
    pub(super) fn poll_parked(
        &self,
        home: LoopId,
        waits: &mut bool,
        context: &mut Context<'_>,
    ) -> Poll<Parked> {
        let mut state = self.lock();
        if state.owner != home {
            return Poll::Ready(Parked::Handed);
        }
        let parked = state.parked.take();
        if std::mem::replace(waits, true) && parked.is_none() {
            return Poll::Ready(Parked::Handed);
        }
        if state.readable {
            return Poll::Ready(Parked::Readable);
        }
        state.parked = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when there may be bytes, or the connection has gone to another loop than `home`.
    pub(super) fn poll_readable(&self, home: LoopId, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.owner != home || state.readable {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Writes more of what is still to be written.
    pub(super) fn flush(&self, home: LoopId) -> Flushed {
        let mut state = self.lock();
        if state.owner != home {
            return Flushed::All;
        }
        state.flush(self.socket())
    }

    /// Replies to the frame of `turn` with `frame` (one whole frame) unless it was answered already; wakes the
    /// connection's task.
    #[inline]
    pub(super) fn reply(&self, turn: Turn, frame: Vec<u8>) -> Replied {
        self.reply_from(turn, frame, 0)
    }

    /// As [`Connection::reply`], with a frame that begins at `from` of `bytes`.
    #[inline]
    pub(super) fn reply_from(&self, turn: Turn, bytes: Vec<u8>, from: usize) -> Replied {
        let mut state = self.lock();
        let sent = state.reply(self.socket(), turn, bytes, from);
        state.wake();
        Replied {
            sent,
            at_boundary: state.at_boundary(),
        }
    }

    /// Lets the call of `turn` wait on the connection in `phase`, after writing `questions`.
    ///
    /// # Errors
    /// The phase is given back when the call was answered meanwhile.
    pub(super) fn park(
        &self,
        turn: Turn,
        phase: Phase<C>,
        questions: Vec<u8>,
    ) -> Result<(), Phase<C>> {
        let mut state = self.lock();
        if state.running(turn).is_none() {
            return Err(phase);
        }
        state.phase = phase;
        state.write(self.socket(), questions);
        state.wake();
        Ok(())
    }

    /// Changes what is known about a running call; `false` when it was answered meanwhile and must not run.
    pub(super) fn running(&self, turn: Turn, change: impl FnOnce(&mut Running<C>)) -> bool {
        self.lock().running(turn).map(change).is_some()
    }

    /// Ends what has taken too long: a call past its deadline (it is answered with ERROR), a reader that does not
    /// read, a gateway that does not close after its protocol was broken.
    pub(super) fn time_up(&self, home: LoopId) -> Late<C> {
        let mut state = self.lock();
        if state.owner != home {
            return Late::Nothing;
        }
        state.time_up(self.socket(), Moment::now())
    }

    /// Gives the connection from loop `from` to loop `to`; `None` when `from` does not have it. For a call that
    /// runs on `from` itself, `Some(Some(..))` is what the watchdog needs: when it began, and its handle, if it is not plain.
    pub(super) fn hand_over(
        &self,
        from: LoopId,
        to: LoopId,
        blame: &Arc<Blame>,
    ) -> Option<Option<(Option<C::Watched>, Moment)>> {
        let mut state = self.lock();
        if state.owner != from {
            return None;
        }
        state.owner = to;
        // Not the new loop's poller to read, before its task says so: a call may wait for an answer.
        state.parked = None;
        let Phase::Running(running) = &mut state.phase else {
            return Some(None);
        };
        if !running.inline {
            return Some(None);
        }
        running.blame = Some(Arc::clone(blame));
        Some(Some((running.watched.clone(), running.turn.started)))
    }

    /// Ready when the call of `turn` is no longer running, or the connection has gone to another loop than `home`.
    pub(super) fn poll_changed(
        &self,
        home: LoopId,
        turn: Turn,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.owner != home || state.running(turn).is_none() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Closes the connection, whatever it is doing, and returns a call that waited on it; `None` when it is not loop
    /// `home` that has it. The gateway sees the close at once, also while a stuck loop still holds the descriptor.
    pub(super) fn close(&self, home: LoopId) -> Option<Option<Box<C>>> {
        let mut state = self.lock();
        (state.owner == home).then(|| state.close(self.socket()))
    }

    /// The confs that the waiting call needs will never be ready.
    pub(super) fn never_configured(&self, home: LoopId) -> Step<C> {
        let mut state = self.lock();
        if state.owner != home {
            return Step::Leave;
        }
        state.never_configured(self.socket())
    }

    /// Takes the connection from its loop if it is at a boundary: it belongs to nobody then, and is to be passed on.
    pub(super) fn give(&self) -> bool {
        let mut state = self.lock();
        state.owner != NOBODY && state.give()
    }

    /// Closes the connection if nobody is about to use it.
    pub(super) fn close_if_idle(&self) {
        let mut state = self.lock();
        if state.owner != NOBODY {
            state.close_if_idle(self.socket());
        }
    }

    /// Answers what is under way with ERROR and closes, whoever has the connection; returns a call that waited on it.
    pub(super) fn cut(&self) -> Option<Box<C>> {
        let mut state = self.lock();
        // One that is on its way to another process may be served there already.
        (state.owner != NOBODY).then(|| state.cut(self.socket()))?
    }
}
