//! Ends a server without failing a call: the backlog, then what is under way, then the rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::listener::{self, Accepted};
use super::rest::AtRest;
use super::server::Shared;
use crate::request::service::{Call, Service};

/// How often connections are looked at: whether they have come to rest.
const LOOK: Duration = Duration::from_millis(10);

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were not at rest when the time was up: closed, after an ERROR if a call was under way.
    pub cut: usize,
}

pub(super) fn drain<S: Service>(shared: &Arc<Shared<S>>, within: Duration) -> Drained {
    let until = Instant::now() + within;
    shared.rest.set(AtRest::Closes);
    shared.accepting.store(false, Ordering::SeqCst);
    sweep(shared, until);
    settle(shared, until);
    // Who connected meanwhile may still be served; who connects from now on is not ours any more.
    if sweep(shared, until) {
        settle(shared, until);
    }
    Drained { cut: cut(shared) }
}

/// Takes all connections that wait in the backlog, after the server was told to accept no more; whether there were any.
/// Those that a loop is just accepting are entered when this returns.
pub(super) fn sweep<S: Service>(shared: &Arc<Shared<S>>, until: Instant) -> bool {
    let mut any = false;
    while shared.entering.any() && Instant::now() < until {
        any = true;
        std::thread::yield_now();
    }
    while Instant::now() < until && listener::accept(shared, None) == Accepted::One {
        any = true;
    }
    any
}

/// Waits until every connection has ended its call, and closes it.
pub(super) fn settle<S: Service>(shared: &Arc<Shared<S>>, until: Instant) {
    loop {
        for connection in shared.loops.connections() {
            connection.close_if_idle();
        }
        let left = until.saturating_duration_since(Instant::now());
        if shared.loops.wait_until_empty(left.min(LOOK)) || left.is_zero() {
            return;
        }
    }
}

pub(super) fn cut<S: Service>(shared: &Arc<Shared<S>>) -> usize {
    let left = shared.loops.connections();
    for connection in &left {
        if let Some(call) = connection.cut() {
            call.finish(false);
        }
    }
    if !left.is_empty() {
        tracing::warn!(
            connections = left.len(),
            "the time to finish calls was up: the rest was answered with ERROR"
        );
    }
    left.len()
}
