//! The supervisor's door for people and scripts: a socket of its own on which one question is asked and answered for each
//! connection. Only our own user and root get in. Decides nothing.

pub mod client;
pub mod message;
pub mod place;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;

use self::message::{Answer, Request};
use self::place::Place;
use super::control;

/// How long somebody may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the supervisor may take to answer: a library may be probed meanwhile.
const LONGEST: Duration = Duration::from_secs(120);
/// Questions at once at most.
const MOST: usize = 16;

/// Where an answer goes; dropping it ends the connection.
pub(super) type Reply = SyncSender<Answer>;

/// The open door. Removes its socket when dropped.
#[derive(Debug)]
pub(super) struct Admin {
    place: Place,
}

impl Admin {
    /// Listens, and calls `ask` with each question on a thread of its own.
    ///
    /// # Errors
    /// When there can be no socket.
    pub(super) fn listen(
        place: Place,
        ask: impl Fn(Request, Vec<OwnedFd>, Reply) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = place.bind()?;
        let ask: Arc<Ask> = Arc::new(ask);
        thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || accept(&listener, &ask))?;
        Ok(Self { place })
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.place.remove();
    }
}

type Ask = dyn Fn(Request, Vec<OwnedFd>, Reply) + Send + Sync;

fn accept(listener: &UnixListener, ask: &Arc<Ask>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((connection, _)) = listener.accept() else {
            // Too many open files: let some of them be closed.
            thread::park_timeout(Duration::from_millis(100));
            continue;
        };
        if !may_ask(&connection) || open.load(Ordering::Relaxed) >= MOST {
            continue;
        }
        open.fetch_add(1, Ordering::Relaxed);
        let (ask, open) = (Arc::clone(ask), Arc::clone(&open));
        // Without a thread the connection ends, which its other end sees.
        let _ = thread::Builder::new()
            .name("admin question".to_owned())
            .spawn(move || {
                if let Err(cause) = answer(connection, ask.as_ref()) {
                    tracing::debug!(cause = %cause, "a question on the admin socket has no answer");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
    }
}

/// Our own user and root.
fn may_ask(connection: &UnixStream) -> bool {
    let ours = rustix::process::geteuid();
    socket_peercred(connection.as_fd()).is_ok_and(|peer| peer.uid.is_root() || peer.uid == ours)
}

fn answer(connection: UnixStream, ask: &Ask) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let (sender, mut receiver) = control::split(connection)?;
    let Some(question) = receiver.receive::<Request>()? else {
        return Ok(());
    };
    let (reply, answer) = sync_channel(1);
    ask(question.message, question.descriptors, reply);
    match answer.recv_timeout(LONGEST) {
        Ok(answer) => sender.send(&answer),
        Err(_) => Err(io::Error::other("the supervisor did not answer")),
    }
}
