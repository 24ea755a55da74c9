//! The supervisor's door for people and scripts: a socket of its own on which one question is asked and answered for each
//! connection. Only our own user and root get in. Decides nothing.

pub mod client;
pub mod message;
pub mod place;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;

use self::message::{Answer, Request};
use self::place::Place;
use super::control;

/// How long somebody may take to ask, however slowly the bytes come.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long somebody may take to read the answer.
const READING: Duration = Duration::from_secs(5);
/// Bytes of a question at most.
const LONGEST_QUESTION: usize = 1 << 16;
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

impl Admin {
    /// The socket, if it is not there any more: its folder was removed.
    pub(super) fn gone(&self) -> Option<PathBuf> {
        Some(self.place.path()).filter(|path| !path.exists())
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

/// A message as `control` sends it, from somebody who may be anything but well-behaved.
fn read_question(connection: &UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    let until = Instant::now() + PATIENCE;
    let mut gift = Vec::new();
    let mut header = [0; 8];
    read_until(connection, &mut header, &mut gift, until)?;
    let [a, b, c, d, tail @ ..] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > LONGEST_QUESTION || tail != [0; 4] {
        return Err(io::Error::other("the question is too long"));
    }
    let mut question = vec![0; length];
    read_until(connection, &mut question, &mut gift, until)?;
    Ok((serde_json::from_slice(&question)?, gift))
}

fn read_until(
    connection: &UnixStream,
    mut into: &mut [u8],
    gift: &mut Vec<OwnedFd>,
    until: Instant,
) -> io::Result<()> {
    while !into.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        connection.set_read_timeout(Some(left))?;
        match control::read_with_descriptors(connection.as_fd(), into, gift) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => into = &mut into[read..],
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

fn answer(connection: UnixStream, ask: &Ask) -> io::Result<()> {
    connection.set_write_timeout(Some(READING))?;
    let (question, gift) = read_question(&connection)?;
    let (sender, _) = control::split(connection)?;
    let (reply, answer) = sync_channel(1);
    ask(question, gift, reply);
    match answer.recv_timeout(LONGEST) {
        Ok(answer) => sender.send(&answer),
        Err(_) => Err(io::Error::other("the supervisor did not answer")),
    }
}
