//! The task of one connection on its event loop: waits, and carries a call from its frame to the thread that runs it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout_at;

use super::connection::{
    Connection, Event, Flushed, Late, Phase, Registered, Step, Turn, Wait, error_frame,
};
use super::event_loop::EventLoop;
use super::rest::AtRest;
use super::server::Shared;
use super::{buffers, event_loops, readiness, run};
use crate::protocol::frame::kind;
use crate::protocol::payload::Payload;
use crate::request::service::{Call, CallKind, ErrorCode, Placement, Service, Watched};

/// Between two attempts to write the rest of a reply while the process is out of descriptors.
const WITHOUT_DESCRIPTOR: Duration = Duration::from_millis(5);

/// One connection on one loop. Dropped in any way, it closes the connection, unless another loop has taken it.
struct Task<S: Service> {
    shared: Arc<Shared<S>>,
    home: Arc<EventLoop>,
    connection: Arc<Connection<S::Call>>,
}

/// Why a task does not simply read on.
enum Paused<C: Call> {
    /// The socket cannot be watched any more.
    Leave,
    /// There is something else to do.
    Step(Step<C>),
    /// The same, but the other connections come first.
    Yield(Step<C>),
    /// See [`Answered::Look`].
    Look,
}

/// What comes after a frame that was taken.
enum Answered {
    /// Reading: the connection is at a boundary again, as another look at it would say.
    AtBoundary,
    /// Whatever the connection says.
    Look,
}

/// Serves `connection` on `home`, which owns it.
pub(super) fn spawn<S: Service>(
    shared: &Arc<Shared<S>>,
    home: &Arc<EventLoop>,
    connection: Arc<Connection<S::Call>>,
) {
    let task = Task {
        shared: Arc::clone(shared),
        home: Arc::clone(home),
        connection,
    };
    home.handle.spawn(async move { task.serve().await });
}

impl<S: Service> Drop for Task<S> {
    fn drop(&mut self) {
        let Some(waiting) = self.connection.close(self.home.id) else {
            return;
        };
        if std::thread::panicking() {
            tracing::error!("a connection was closed after a panic: this is a fault of the runner");
        }
        if let Some(call) = waiting {
            call.finish(false);
        }
        self.shared.loops.remove(self.connection.id);
    }
}

impl<S: Service> Task<S> {
    async fn serve(self) {
        let registered = Registered(Arc::clone(&self.connection));
        // Readable only: a registration for writable, too, would wake the loop whenever the gateway reads a reply.
        let socket = match readiness::watch(registered, Interest::READABLE) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "a connection cannot be watched and is closed");
                return;
            }
        };
        let mut step = self.next();
        loop {
            step = match step {
                Step::Read => match poll_fn(|context| self.poll_frames(&socket, context)).await {
                    Paused::Leave => return,
                    Paused::Step(step) => step,
                    Paused::Yield(step) => {
                        tokio::task::yield_now().await;
                        step
                    }
                    Paused::Look => self.look().await,
                },
                Step::Frame {
                    kind,
                    payload,
                    turn,
                } => match self.answer(kind, payload, turn) {
                    Answered::AtBoundary => Step::Read,
                    Answered::Look => self.look().await,
                },
                Step::Configured { call, turn } => self.at_work(|task| task.ask(*call, turn)),
                Step::Answered { call, turn } => self.at_work(|task| task.place(*call, turn)),
                Step::Failed { call } => self.at_work(|_| buffers::give(call.finish(false))),
                Step::Wait(wait) => match self.wait(&socket, wait).await {
                    Some(step) => step,
                    None => return,
                },
                Step::Give => {
                    if !self.shared.rest.give(&self.connection) {
                        event_loops::keep(&self.shared, &self.connection);
                    }
                    return;
                }
                Step::Leave => return,
            };
        }
    }

    /// Goes on with a call under the watchdog's eyes.
    fn at_work<T>(&self, work: impl FnOnce(&Self) -> T) -> Step<S::Call> {
        let _busy = self.enter(Instant::now());
        work(self);
        self.next()
    }

    fn enter(&self, now: Instant) -> super::event_loop::Busy<'_> {
        self.home.enter(&self.shared.alarm, now)
    }

    fn at_rest(&self) -> AtRest {
        self.shared.rest.mode()
    }

    fn next(&self) -> Step<S::Call> {
        self.connection.next(self.home.id, self.at_rest())
    }

    /// Reads and answers frame after frame until there is something else to do. Here and not in `serve`, so that a call
    /// passes through no future but the task's own.
    fn poll_frames(
        &self,
        socket: &AsyncFd<Registered<S::Call>>,
        context: &mut Context<'_>,
    ) -> Poll<Paused<S::Call>> {
        loop {
            // Keeps the waker in a place of its own: `readable()` would enter and leave a list for every call.
            let Ok(mut ready) = ready!(socket.poll_read_ready(context)) else {
                return Poll::Ready(Paused::Leave);
            };
            let mut drained = false;
            let (home, at_rest) = (self.home.id, self.at_rest());
            let step = self.connection.receive(home, at_rest, &mut drained);
            if drained {
                ready.clear_ready();
            }
            match step {
                Step::Frame {
                    kind,
                    payload,
                    turn,
                } => match self.answer(kind, payload, turn) {
                    Answered::AtBoundary => {}
                    Answered::Look => return Poll::Ready(Paused::Look),
                },
                // A large frame that comes as fast as we read may not keep the other connections waiting. Never with a
                // call in hand: if this loop got stuck now, no other could answer it.
                Step::Read | Step::Wait(_) if !drained => return Poll::Ready(Paused::Yield(step)),
                Step::Read => {}
                step => return Poll::Ready(Paused::Step(step)),
            }
        }
    }

    /// What to do next. Frames that are here already may not keep the other connections waiting.
    async fn look(&self) -> Step<S::Call> {
        tokio::task::consume_budget().await;
        self.next()
    }

    /// Waits for bytes and reads once, for a call that is under way or after the last reply.
    async fn read(&self, socket: &AsyncFd<Registered<S::Call>>) -> Option<Step<S::Call>> {
        let mut ready = poll_fn(|context| socket.poll_read_ready(context))
            .await
            .ok()?;
        let mut drained = false;
        let (home, at_rest) = (self.home.id, self.at_rest());
        let step = self.connection.receive(home, at_rest, &mut drained);
        if drained {
            ready.clear_ready();
        } else if matches!(step, Step::Read | Step::Wait(_)) {
            // As in `poll_frames`.
            tokio::task::yield_now().await;
        }
        Some(step)
    }

    async fn wait(
        &self,
        socket: &AsyncFd<Registered<S::Call>>,
        wait: Wait,
    ) -> Option<Step<S::Call>> {
        let happened = timeout_at(wait.until.into(), self.event(socket, wait.event)).await;
        match happened {
            Ok(step) => step,
            Err(_) => {
                let _busy = self.enter(Instant::now());
                expire(self.connection.time_up(self.home.id));
                Some(self.next())
            }
        }
    }

    async fn event(
        &self,
        socket: &AsyncFd<Registered<S::Call>>,
        event: Event,
    ) -> Option<Step<S::Call>> {
        match event {
            Event::Answered(turn) => {
                poll_fn(|context| self.connection.poll_changed(self.home.id, turn, context)).await;
                Some(self.next())
            }
            Event::Configured(mut ready) => match ready.wait_for(|ready| *ready).await {
                Ok(_) => Some(self.next()),
                Err(_) => Some(self.connection.never_configured(self.home.id)),
            },
            Event::Readable => self.read(socket).await,
            Event::Writable => self.write().await,
            Event::Either => tokio::select! {
                step = self.read(socket) => step,
                step = self.write() => step,
            },
        }
    }

    /// Writes whenever the socket takes more, until all is written.
    async fn write(&self) -> Option<Step<S::Call>> {
        // A descriptor of its own, because the loop has the first one registered for reading only.
        let socket = rustix::io::fcntl_dupfd_cloexec(self.connection.socket(), 3);
        match socket {
            Ok(socket) => {
                let socket = readiness::watch(socket, Interest::WRITABLE).ok()?;
                loop {
                    let mut ready = socket.writable().await.ok()?;
                    match self.connection.flush(self.home.id) {
                        Flushed::All => break,
                        Flushed::Turn => tokio::task::yield_now().await,
                        Flushed::Full => ready.clear_ready(),
                    }
                }
            }
            // None to be had: the reply is written all the same, only not as soon as it could be.
            Err(_) => {
                tokio::time::sleep(WITHOUT_DESCRIPTOR).await;
                self.connection.flush(self.home.id);
            }
        }
        Some(self.next())
    }

    fn answer(&self, kind: u8, payload: Payload, turn: Turn) -> Answered {
        if self.frame(kind, payload, turn) && self.at_rest() == AtRest::Stays {
            Answered::AtBoundary
        } else {
            Answered::Look
        }
    }

    /// Answers a frame, or sees to it that it will be answered. Returns whether the connection is at a boundary again,
    /// as all methods below do.
    #[inline]
    fn frame(&self, kind: u8, payload: Payload, turn: Turn) -> bool {
        let _busy = self.enter(turn.started);
        match kind {
            kind::HTTP_REQ_CALL => self.admit(CallKind::Request, payload, turn),
            kind::HTTP_RESP_CALL => self.admit(CallKind::Response, payload, turn),
            kind::PREPARE_CONF => {
                let mut out = buffers::take();
                self.shared.service.prepare_conf(&payload, &mut out);
                buffers::give(payload.into_buffer());
                self.connection.reply(turn, out).at_boundary
            }
            other => {
                buffers::give(payload.into_buffer());
                if let Some(before) = self.shared.faults.admit(&format!("kind {other}")) {
                    tracing::warn!(
                        kind = other,
                        before,
                        "the gateway sent a frame of a kind that has no meaning here: answered with ERROR"
                    );
                }
                self.connection
                    .reply(turn, error_frame(ErrorCode::BadRequest))
                    .at_boundary
            }
        }
    }

    #[inline]
    fn admit(&self, kind: CallKind, payload: Payload, turn: Turn) -> bool {
        match self.shared.service.admit(kind, payload, turn.started) {
            Ok(mut call) => match call.pending() {
                None => self.ask(call, turn),
                Some(_) => {
                    let call = Box::new(call);
                    self.park(turn, Phase::Pending { call, turn }, Vec::new())
                }
            },
            Err(refused) => {
                buffers::give(refused.payload.into_buffer());
                self.connection
                    .reply(turn, error_frame(refused.code))
                    .at_boundary
            }
        }
    }

    /// Asks what the call has declared that it needs; with no needs it runs.
    #[inline]
    fn ask(&self, mut call: S::Call, turn: Turn) -> bool {
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
    #[inline]
    fn place(&self, call: S::Call, turn: Turn) -> bool {
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
            Placement::Inline => run::run(&self.connection, turn, call, &self.home.blame),
            Placement::Threads(permits) => {
                let connection = Arc::clone(&self.connection);
                self.shared
                    .threads
                    .dispatch(connection, turn, call, permits);
                false
            }
        }
    }
}

/// Tells those who care that a call was not answered in time.
fn expire<C: Call>(late: Late<C>) {
    match late {
        Late::Nothing => {}
        Late::Waiting { call, turn } => {
            call.watched().expired(None, turn.started.elapsed());
            buffers::give(call.finish(false));
        }
        Late::Running(running) => {
            if let Some(watched) = running.watched {
                watched.expired(running.blame.as_deref(), running.turn.started.elapsed());
            }
        }
    }
}
