//! Another runner at our socket's path: found by what the kernel says of who listens there, and asked to take our
//! connections. Trusts nobody but our own user and root.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::admin::message::{Answer, Request};
use super::admin::place;
use super::control;
use crate::config::Config;
use crate::rpc::hand_over::pair;

/// Why nobody takes our connections.
#[derive(Debug, thiserror::Error)]
pub(super) enum SuccessorError {
    /// Nobody listens at the path.
    #[error("nobody listens there: {0}")]
    Nobody(io::Error),
    /// Another user's process does.
    #[error("process {pid} of user {uid} listens there, who is neither root nor ours")]
    Stranger { pid: i32, uid: u32 },
    /// It has no socket to be asked on, or not where we look.
    #[error("process {0} listens there, which is no runner with our state.dir")]
    NoRunner(i32),
    /// It does not do it.
    #[error("the runner with process id {pid} does not take connections: {cause}")]
    Refused { pid: i32, cause: String },
}

/// A runner that takes connections.
#[derive(Debug)]
pub(super) struct Successor {
    /// Its process id.
    pub(super) pid: i32,
    /// Where it takes them.
    pub(super) takes: OwnedFd,
}

/// The process that listens at `path`, if its user is ours or root. Never waits.
///
/// # Errors
/// There is none, or it is a stranger's.
pub(super) fn listener(path: &Path) -> Result<i32, SuccessorError> {
    let system = |cause: rustix::io::Errno| SuccessorError::Nobody(cause.into());
    // A full backlog must not hold us up.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = socket.map_err(system)?;
    let address = SocketAddrUnix::new(path).map_err(system)?;
    connect(&socket, &address).map_err(system)?;
    trusted(&socket)
}

/// The process that called `listen` for what this is connected to: unix(7), SO_PEERCRED.
fn trusted(connected: impl AsFd) -> Result<i32, SuccessorError> {
    let peer = socket_peercred(connected).map_err(|cause| SuccessorError::Nobody(cause.into()))?;
    let (pid, uid) = (peer.pid.as_raw_nonzero().get(), peer.uid);
    if uid.is_root() || uid == rustix::process::geteuid() {
        return Ok(pid);
    }
    let uid = uid.as_raw();
    Err(SuccessorError::Stranger { pid, uid })
}

/// Asks the runner that listens at `path` to take our connections. It may just be starting: its answer is waited for for
/// `patience`.
///
/// # Errors
/// It is no runner of ours, or does not take them.
pub(super) fn ask(
    path: &Path,
    config: &Config,
    patience: Duration,
) -> Result<Successor, SuccessorError> {
    let pid = listener(path)?;
    let found = place::find(config).into_iter();
    let mut found = found.filter(|found| i32::try_from(found.pid) == Ok(pid));
    let place = found.next().ok_or(SuccessorError::NoRunner(pid))?;
    let refused = |cause: io::Error| SuccessorError::Refused {
        pid,
        cause: cause.to_string(),
    };
    let connection = place::connect(&place.path).map_err(refused)?;
    if trusted(&connection)? != pid {
        return Err(SuccessorError::NoRunner(pid));
    }
    let (takes, theirs) = pair().map_err(refused)?;
    match exchange(connection, theirs, patience).map_err(refused)? {
        Answer::Done { .. } => Ok(Successor { pid, takes }),
        Answer::Failed { lines } => Err(SuccessorError::Refused {
            pid,
            cause: lines.join("; "),
        }),
        Answer::Status(_) => Err(SuccessorError::NoRunner(pid)),
    }
}

fn exchange(connection: UnixStream, theirs: OwnedFd, patience: Duration) -> io::Result<Answer> {
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    let (sender, mut receiver) = control::split(connection)?;
    sender.send_with(&Request::TakeConnections, &[], &[theirs.as_fd()])?;
    let answer = receiver.receive::<Answer>()?;
    let answer = answer.ok_or_else(|| io::Error::other("it closed the connection"))?;
    Ok(answer.message)
}
