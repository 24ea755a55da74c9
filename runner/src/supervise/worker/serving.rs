//! The worker's server, and the connections of another process that may come before it. Whoever gives connections away or
//! ends them waits for both, so that a takeover which follows closely upon another one loses none.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::request::calls::Calls;
use crate::rpc::hand_over::take_all;
use crate::rpc::server::{HandedOver, Server};

#[derive(Default)]
pub(super) struct Serving {
    server: OnceLock<Server<Calls>>,
    entrance: Mutex<Entrance>,
    /// There is a server.
    opened: Condvar,
}

/// Where connections of other processes come in.
#[derive(Default)]
struct Entrance {
    /// They came before there was a server.
    early: Vec<OwnedFd>,
    /// Processes that may still send some.
    sources: usize,
}

/// One process that may still send connections.
struct Source(Arc<Serving>);

impl Drop for Source {
    fn drop(&mut self) {
        self.0.entrance().sources -= 1;
    }
}

impl Serving {
    /// The server, if there is one yet.
    pub(super) fn server(&self) -> Option<&Server<Calls>> {
        self.server.get()
    }

    /// Lets it serve, first of all what came early. A second order to serve is a fault of the supervisor; the first server
    /// goes on.
    pub(super) fn install(&self, server: Server<Calls>) {
        let mut entrance = self.entrance();
        let server = self.server.get_or_init(|| server);
        let early = entrance.early.drain(..);
        early.for_each(|socket| server.take(socket));
        self.opened.notify_all();
    }

    /// The server, which is being started.
    pub(super) fn wait(&self, within: Duration) -> Option<&Server<Calls>> {
        let missing = |_: &mut Entrance| self.server.get().is_none();
        drop(
            self.opened
                .wait_timeout_while(self.entrance(), within, missing),
        );
        self.server.get()
    }

    /// Serves the connections that come over `from`, on a thread of its own. From now on they are waited for.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn adopt(self: &Arc<Self>, from: OwnedFd) -> io::Result<()> {
        self.entrance().sources += 1;
        let source = Source(Arc::clone(self));
        let taking = move || match take_all(&from, |socket| source.0.take(socket)) {
            Ok(taken) => tracing::debug!(taken, "took over connections"),
            Err(cause) => tracing::debug!(cause = %cause, "connections were not all taken over"),
        };
        let thread = thread::Builder::new().name("adopt".to_owned());
        thread.spawn(taking)?;
        Ok(())
    }

    /// Gives all connections away, also those that are still on their way to us.
    pub(super) fn hand_over(&self, to: &OwnedFd, within: Duration) -> Option<HandedOver> {
        let until = Instant::now() + within;
        let server = self.wait(within)?;
        let arriving = || self.entrance().sources > 0;
        let left = until.saturating_duration_since(Instant::now());
        Some(server.hand_over(to, left, &arriving))
    }

    fn take(&self, socket: OwnedFd) {
        let mut entrance = self.entrance();
        match self.server.get() {
            Some(server) => server.take(socket),
            None => entrance.early.push(socket),
        }
    }

    fn entrance(&self) -> MutexGuard<'_, Entrance> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
