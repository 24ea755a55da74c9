//! Serves the gateway on one listening socket: starts everything, and ends it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::event_loops::EventLoops;
use super::large::{self, Freed};
use super::listener::Entering;
use super::peer::Peers;
use super::rest::{AtRest, Rest};
use super::threads::Threads;
use super::watchdog::Alarm;
use super::{drain, hand_over, listener, poller, watchdog};
use crate::request::service::Service;
use crate::telemetry::Repeated;

pub use super::drain::Drained;
pub use super::hand_over::HandedOver;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Event loops (threads); at least one is started. Fewer are better on a small machine.
    pub event_loops: usize,
    /// Blocking threads for calls that may not run on an event loop; they start when needed. At least one.
    pub threads: usize,
    /// Time for one call, from its whole frame to its reply.
    pub deadline: Duration,
    /// Users who may connect beside our own, root and nobody.
    pub allowed_peers: Vec<u32>,
    /// Tells the allocator what becomes of large blocks. Called by any thread that serves, and for
    /// [`Freed::Swept`] by one that may take its time. The first server of a process decides for all.
    pub freed: fn(Freed),
}

/// Serves until it is dropped. Its connections are closed then; [`Server::drain`] first ends their calls.
pub struct Server<S: Service> {
    shared: Arc<Shared<S>>,
    /// Of the blocking threads. Not in `shared`: a runtime may not be dropped by a task.
    runtime: Option<Runtime>,
}

/// What all threads of a server share.
pub(super) struct Shared<S: Service> {
    pub(super) service: Arc<S>,
    pub(super) settings: Settings,
    pub(super) listener: OwnedFd,
    pub(super) peers: Peers,
    pub(super) loops: EventLoops<S::Call>,
    pub(super) threads: Threads,
    pub(super) alarm: Arc<Alarm>,
    pub(super) accepting: AtomicBool,
    /// Loops that are just accepting.
    pub(super) entering: Entering,
    pub(super) rest: Rest<S::Call>,
    /// Which faults have been logged lately.
    pub(super) faults: Repeated,
}

impl<S: Service> Server<S> {
    /// Serves connections to `listener` (a listening Unix socket) with `service`. Returns at once; threads do the work.
    ///
    /// # Errors
    /// No threads or no descriptors to be had, or `listener` is no socket.
    pub fn start(listener: OwnedFd, service: Arc<S>, settings: Settings) -> io::Result<Self> {
        let server = Self::at_rest(listener, service, settings)?;
        server.shared.accepting.store(true, Ordering::SeqCst);
        server.shared.rest.set(AtRest::Stays);
        for each in server.shared.loops.current() {
            listener::spawn(&server.shared, &each);
        }
        Ok(server)
    }

    /// A server that accepts nothing and serves no call: all that is left to do is [`Server::hand_over`], which gives away
    /// what waits in the backlog and what was taken. Otherwise as [`Server::start`].
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn at_rest(listener: OwnedFd, service: Arc<S>, settings: Settings) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        large::install(settings.freed);
        let (threads, runtime) = Threads::start(settings.threads)?;
        let shared = Arc::new(Shared {
            service,
            listener,
            peers: Peers::new(&settings.allowed_peers),
            loops: EventLoops::start(settings.event_loops)?,
            threads,
            alarm: Arc::new(Alarm::new()),
            accepting: AtomicBool::new(false),
            entering: Entering::default(),
            rest: Rest::default(),
            faults: Repeated::new(),
            settings,
        });
        let server = Self {
            shared: Arc::clone(&shared),
            runtime: Some(runtime),
        };
        shared.rest.set(AtRest::IsGiven);
        for each in shared.loops.current() {
            poller::spawn(&shared, &each);
        }
        watchdog::start(shared)?;
        Ok(server)
    }

    /// Ends serving within `within`: accepts what waits in the backlog, finishes the calls that are under way or
    /// already here, closes connections between two calls. What is left then is answered with ERROR. Blocks.
    pub fn drain(&self, within: Duration) -> Drained {
        drain::drain(&self.shared, within)
    }

    /// Accepts no more, and gives each connection to whoever takes them at the other end of `to` (see
    /// [`hand_over::pair`](super::hand_over::pair)) as soon as it is between two calls. Ends when there are none left, or
    /// after `within`: what is left then is answered with ERROR and closed. Blocks. If the other end fails, the connections
    /// that are left are served as before, and this may be called again. `arriving`: whether [`Server::take`] may still be
    /// called, which is waited for.
    pub fn hand_over(
        &self,
        to: &OwnedFd,
        within: Duration,
        arriving: &dyn Fn() -> bool,
    ) -> HandedOver {
        hand_over::hand_over(&self.shared, to, within, arriving)
    }

    /// Serves a connection that another process has accepted, and that is between two calls.
    pub fn take(&self, socket: OwnedFd) {
        let _enters = self.shared.entering.begin();
        listener::welcome(&self.shared, None, socket);
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.loops.len()
    }

    /// Event loops that were replaced because a call held them up, and whose threads have not come back.
    pub fn stuck(&self) -> usize {
        self.shared.loops.stuck()
    }

    /// Threads that are still in a call although it should have been answered by now.
    pub fn stuck_threads(&self) -> usize {
        let limit = self.shared.settings.deadline;
        self.shared.threads.late() + self.shared.loops.late(limit)
    }
}

impl<S: Service> Drop for Server<S> {
    fn drop(&mut self) {
        self.shared.accepting.store(false, Ordering::Release);
        self.shared.alarm.stop();
        self.shared.loops.end();
        if let Some(runtime) = self.runtime.take() {
            // Does not wait: a stuck plugin must not keep the process.
            runtime.shutdown_background();
        }
    }
}
