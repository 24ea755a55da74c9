//! Gives a server's connections to another process at call boundaries, so that no gateway and no call notices. A call that
//! does not finish holds up its own connection and no other.

mod batch;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::rest::AtRest;
use super::server::Shared;
use super::{drain, event_loops};
use crate::request::service::Service;

pub use batch::{pair, take_all};

/// How often connections are looked at: whether they have come to rest.
const LOOK: Duration = Duration::from_millis(10);
/// How long the other side is left alone when it could not take more connections.
const PAUSE: Duration = Duration::from_millis(200);
/// What connections that cannot be given get at the end, to come to rest and be closed.
const CLOSING: Duration = Duration::from_millis(500);

/// What handing over came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Connections that the other process has now.
    pub passed: usize,
    /// Connections that were not at rest when the time was up: closed, after an ERROR if a call was under way.
    pub cut: usize,
    /// The other process takes no more: we go on with the connections that are left, and accept none.
    pub broken: bool,
}

pub(super) fn hand_over<S: Service>(
    shared: &Arc<Shared<S>>,
    to: &OwnedFd,
    within: Duration,
    arriving: &dyn Fn() -> bool,
) -> HandedOver {
    let mut giver = Giver {
        shared,
        to: to.as_fd(),
        arriving,
        waiting: Vec::new(),
        handed: HandedOver::default(),
    };
    let closing = CLOSING.min(within / 10);
    let until = Instant::now() + within - closing;
    shared.accepting.store(false, Ordering::SeqCst);
    shared.rest.set(AtRest::IsGiven);
    drain::sweep(shared, until);
    match batch::set_patience(giver.to).and_then(|()| giver.give_all(until)) {
        Ok(()) => giver.close_the_rest(closing),
        Err(cause) => {
            tracing::debug!(cause = %cause, "connections cannot be handed over any more");
            giver.handed.broken = true;
            giver.keep();
        }
    }
    giver.handed
}

struct Giver<'a, S: Service> {
    shared: &'a Arc<Shared<S>>,
    to: BorrowedFd<'a>,
    /// Whether connections of another process may still come.
    arriving: &'a dyn Fn() -> bool,
    /// Those that belong to no loop any more.
    waiting: Vec<Arc<Connection<S::Call>>>,
    handed: HandedOver,
}

impl<S: Service> Giver<'_, S> {
    /// Until all are given, the time is up, or the server is drained instead.
    fn give_all(&mut self, until: Instant) -> io::Result<()> {
        let shared = self.shared;
        loop {
            // The last time everything that is at rest is given once more: the other side may have kept us waiting.
            let over = Instant::now() >= until;
            for connection in shared.loops.connections() {
                if connection.give() {
                    self.waiting.push(connection);
                }
            }
            self.waiting.extend(shared.rest.take(Duration::ZERO));
            self.pass(until)?;
            // Whoever connected to us meanwhile is not left behind.
            let empty = self.waiting.is_empty() && shared.loops.len() == 0;
            let last = empty && !(self.arriving)();
            if last && !drain::sweep(shared, until) && shared.loops.len() == 0 {
                return Ok(());
            }
            if over || shared.rest.mode() == AtRest::Closes {
                return Ok(());
            }
            if !last {
                self.waiting = shared.rest.take(LOOK);
            }
        }
    }

    fn pass(&mut self, until: Instant) -> io::Result<()> {
        while !self.waiting.is_empty() {
            let batch = &self.waiting[..self.waiting.len().min(batch::MOST)];
            let sockets: Vec<_> = batch.iter().map(|connection| connection.socket()).collect();
            let (offered, taken) = (sockets.len(), batch::give(self.to, &sockets)?);
            for connection in self.waiting.drain(..taken) {
                self.shared.loops.remove(connection.id);
            }
            self.handed.passed += taken;
            if taken < offered {
                self.pause(until);
            }
        }
        Ok(())
    }

    /// The other side is short of something: the connections are served here for a while.
    fn pause(&mut self, until: Instant) {
        if let Some(before) = self.shared.faults.admit("hand over") {
            tracing::warn!(
                before,
                hint = "raise the limit of open files if that is the cause",
                "the process that takes our connections takes no more of them for now"
            );
        }
        self.keep();
        std::thread::park_timeout(PAUSE.min(until.saturating_duration_since(Instant::now())));
        self.shared.rest.set(AtRest::IsGiven);
    }

    /// Serves what nobody has taken.
    fn keep(&mut self) {
        self.shared.rest.set(AtRest::Stays);
        self.waiting.extend(self.shared.rest.take(Duration::ZERO));
        for connection in self.waiting.drain(..) {
            event_loops::keep(self.shared, &connection);
        }
    }

    /// What did not come to rest in time, or was not taken.
    fn close_the_rest(&mut self, closing: Duration) {
        self.keep();
        self.shared.rest.set(AtRest::Closes);
        if self.shared.loops.len() > 0 {
            drain::settle(self.shared, Instant::now() + closing);
            self.handed.cut = drain::cut(self.shared);
        }
    }
}
