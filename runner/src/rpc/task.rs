//! The task of one connection on its event loop: waits for what the poller does not look after, which is everything but
//! the next call: answers, confs, threads, a slow reader, deadlines.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::timeout_at;

use super::connection::{Connection, Event, Flushed, Parked, Step, Wait};
use super::event_loop::EventLoop;
use super::readiness;
use super::server::Shared;
use super::serving::Serving;
use crate::request::service::{Call, Service};

/// Between two attempts to write the rest of a reply while the process is out of descriptors.
const WITHOUT_DESCRIPTOR: Duration = Duration::from_millis(5);

/// One connection on one loop. Dropped in any way, it closes the connection, unless another loop has taken it.
struct Task<S: Service> {
    shared: Arc<Shared<S>>,
    home: Arc<EventLoop<S::Call>>,
    connection: Arc<Connection<S::Call>>,
}

/// Serves `connection` on `home`, which owns it.
pub(super) fn spawn<S: Service>(
    shared: &Arc<Shared<S>>,
    home: &Arc<EventLoop<S::Call>>,
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
        let _watching = match self.home.poller.watch(&self.connection) {
            Ok(watching) => watching,
            Err(error) => {
                tracing::error!(%error, "a connection cannot be watched and is closed");
                return;
            }
        };
        let mut step = self.serving().next();
        loop {
            let serving = self.serving();
            step = match step {
                Step::Read => match self.parked().await {
                    Parked::Readable => self.read().await,
                    Parked::Handed => self.look().await,
                },
                Step::Frame {
                    kind,
                    payload,
                    turn,
                } => {
                    {
                        let _busy = serving.enter(turn.started);
                        serving.answer(kind, payload, turn);
                    }
                    self.look().await
                }
                Step::Configured { call, turn } => serving.at_work(|it| it.ask(*call, turn)),
                Step::Answered { call, turn } => serving.at_work(|it| it.place(*call, turn)),
                Step::Failed { call } => serving.at_work(|_| call.finish(false)),
                Step::Wait(wait) => match self.wait(wait).await {
                    Some(step) => step,
                    None => return,
                },
                Step::Give => return serving.give(),
                Step::Leave => return,
            };
        }
    }

    fn serving(&self) -> Serving<'_, S> {
        Serving {
            shared: &self.shared,
            home: &self.home,
            connection: &self.connection,
        }
    }

    /// Leaves the connection to the poller, until there is something that the poller cannot do.
    async fn parked(&self) -> Parked {
        let mut waits = false;
        poll_fn(|context| {
            self.connection
                .poll_parked(self.home.id, &mut waits, context)
        })
        .await
    }

    /// What to do next. Frames that are here already may not keep the other connections waiting.
    async fn look(&self) -> Step<S::Call> {
        tokio::task::consume_budget().await;
        self.serving().next()
    }

    /// Waits for bytes and reads once, for a call that is under way or after the last reply.
    async fn read(&self) -> Step<S::Call> {
        let home = self.home.id;
        poll_fn(|context| self.connection.poll_readable(home, context)).await;
        let mut drained = false;
        let at_rest = self.serving().at_rest();
        let step = self.connection.receive(home, at_rest, &mut drained);
        // A large frame that comes as fast as we read may not keep the other connections waiting. Never with a call in
        // hand: if this loop got stuck now, no other could answer it.
        if !drained && matches!(step, Step::Read | Step::Wait(_)) {
            tokio::task::yield_now().await;
        }
        step
    }

    async fn wait(&self, wait: Wait) -> Option<Step<S::Call>> {
        let happened = timeout_at(wait.until.into(), self.event(wait.event)).await;
        match happened {
            Ok(step) => step,
            Err(_) => Some(self.serving().time_up()),
        }
    }

    async fn event(&self, event: Event) -> Option<Step<S::Call>> {
        match event {
            Event::Answered(turn) => {
                poll_fn(|context| self.connection.poll_changed(self.home.id, turn, context)).await;
                Some(self.serving().next())
            }
            Event::Configured(mut ready) => match ready.wait_for(|ready| *ready).await {
                Ok(_) => Some(self.serving().next()),
                Err(_) => Some(self.connection.never_configured(self.home.id)),
            },
            Event::Readable => Some(self.read().await),
            Event::Writable => self.write().await,
            Event::Either => tokio::select! {
                step = self.read() => Some(step),
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
        Some(self.serving().next())
    }
}
