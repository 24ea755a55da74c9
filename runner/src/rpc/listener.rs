//! Accepts connections on the socket it is given, on every event loop. Binding and removing it is not its business.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;

use super::event_loop::{EventLoop, LoopId};
use super::server::Shared;
use super::{event_loops, readiness};
use crate::request::service::Service;

/// Pause after the process ran out of descriptors or memory: connections wait in the backlog meanwhile.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Descriptors that no connection takes, or half of those there are: a library that is loaded needs some.
const RESERVE: u64 = 128;

/// Bytes of a reply that the system may hold for a gateway that has not read them yet, if it allows for as many.
const SEND_BUFFER: usize = 1 << 20;

/// What one attempt to accept came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// A connection was taken from the backlog: it is served, or its peer was refused.
    One,
    /// The backlog is empty.
    Empty,
    /// Try again later.
    Exhausted,
}

/// Counts those who are just accepting: a connection that has left the backlog and is not entered yet.
#[derive(Debug, Default)]
pub(super) struct Entering(AtomicUsize);

/// Somebody accepts, until this is dropped.
pub(super) struct Enters<'a>(&'a AtomicUsize);

impl Entering {
    pub(super) fn begin(&self) -> Enters<'_> {
        // SeqCst, as with `accepting`: either we see that it has ended, or who ends it sees us.
        self.0.fetch_add(1, Ordering::SeqCst);
        Enters(&self.0)
    }

    /// Whether there is one.
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Enters<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Listening<S: Service>(Arc<Shared<S>>);

impl<S: Service> AsRawFd for Listening<S> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.listener.as_raw_fd()
    }
}

/// Lets `home` accept, until it is replaced or the server stops accepting.
pub(super) fn spawn<S: Service>(shared: &Arc<Shared<S>>, home: &Arc<EventLoop<S::Call>>) {
    home.handle
        .spawn(listen(Arc::clone(shared), Arc::clone(home)));
}

async fn listen<S: Service>(shared: Arc<Shared<S>>, home: Arc<EventLoop<S::Call>>) {
    let listening = match readiness::watch(Listening(Arc::clone(&shared)), Interest::READABLE) {
        Ok(listening) => listening,
        Err(error) => {
            tracing::error!(%error, "the socket cannot be watched: no connection is accepted");
            return;
        }
    };
    loop {
        let Ok(mut ready) = listening.readable().await else {
            return;
        };
        let Some(accepted) = accept_for(&shared, &home) else {
            return;
        };
        match accepted {
            Accepted::One => tokio::task::consume_budget().await,
            Accepted::Empty => ready.clear_ready(),
            Accepted::Exhausted => tokio::time::sleep(EXHAUSTED).await,
        }
    }
}

/// `None`: `home` is not to accept any more.
fn accept_for<S: Service>(shared: &Arc<Shared<S>>, home: &EventLoop<S::Call>) -> Option<Accepted> {
    let _enters = shared.entering.begin();
    let wanted = !home.is_replaced() && shared.accepting.load(Ordering::SeqCst);
    wanted.then(|| accept(shared, Some(home.id)))
}

/// Accepts one connection for the loop `home` (or any) and checks who it is.
pub(super) fn accept<S: Service>(shared: &Arc<Shared<S>>, home: Option<LoopId>) -> Accepted {
    if !has_room(shared.loops.len() as u64) {
        waits(shared, &Errno::MFILE.into());
        return Accepted::Exhausted;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::accept_with(&shared.listener, flags) {
        Ok(socket) => socket,
        Err(Errno::AGAIN) => return Accepted::Empty,
        Err(Errno::INTR | Errno::CONNABORTED) => return Accepted::One,
        Err(error) => {
            waits(shared, &error.into());
            return Accepted::Exhausted;
        }
    };
    welcome(shared, home, socket);
    Accepted::One
}

/// Serves a connection on the loop `home` (or any), if its peer may connect. Otherwise it is closed.
pub(super) fn welcome<S: Service>(shared: &Arc<Shared<S>>, home: Option<LoopId>, socket: OwnedFd) {
    match shared.peers.check(socket.as_fd()) {
        Ok(()) => {
            // As much as the system lets us have; without it a long reply only takes more turns.
            let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
            event_loops::adopt(shared, home, socket);
        }
        Err(uid) => {
            if let Some(before) = shared.faults.admit(&format!("peer {uid:?}")) {
                tracing::warn!(
                    uid,
                    before,
                    "a connection was refused: its user is not allowed; add it to `socket.peers` if it is the gateway's"
                );
            }
        }
    }
}

/// Whether there are descriptors for another connection.
fn has_room(connections: u64) -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_none_or(|limit| connections < limit - RESERVE.min(limit / 2))
}

fn waits<S: Service>(shared: &Shared<S>, error: &std::io::Error) {
    if let Some(before) = shared.faults.admit("accept") {
        tracing::error!(
            before,
            %error,
            "a connection waits because it cannot be accepted: raise the limit of open files if that is the cause"
        );
    }
}
