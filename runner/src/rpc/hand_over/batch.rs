//! Connections on their way from one process to another: a few at a time over a pair of sockets, each batch acknowledged.
//! Exactly one of the two has a connection afterwards, whatever happens to the other.
//!
//! A batch on the wire (SOCK_SEQPACKET): one byte, how many descriptors come with it (SCM_RIGHTS). The answer: one byte,
//! how many of them arrived, counted from the first. A connection changes hands with the answer, not before.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recv, recvmsg, send,
    sendmsg, shutdown, socketpair,
};

/// Connections in one batch. No more are between the processes at any time, as an unprivileged user may have no more
/// descriptors in flight than open.
pub(super) const MOST: usize = 64;
/// How long the other side may take to take a batch.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pair of sockets to pass connections over: either end may give, the other takes.
///
/// # Errors
/// There are no descriptors to be had.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    Ok(pair?)
}

/// Prepares an end that gives: nothing on it waits for ever.
pub(super) fn set_patience(to: BorrowedFd<'_>) -> io::Result<()> {
    set_socket_timeout(to, Timeout::Send, Some(PATIENCE))?;
    Ok(set_socket_timeout(to, Timeout::Recv, Some(PATIENCE))?)
}

/// Gives a batch; says how many the other side has taken, counted from the first. The others are still ours.
///
/// # Errors
/// The other side is gone or does not answer: all of them are still ours.
pub(super) fn give(to: BorrowedFd<'_>, sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let sockets = &sockets[..sockets.len().min(MOST)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let count = [sockets.len() as u8];
    let sent = retry(|| {
        sendmsg(
            to,
            &[IoSlice::new(&count)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )
    });
    match sent {
        Ok(_) => {}
        // Descriptors of this user that are in flight elsewhere.
        Err(Errno::TOOMANYREFS) => return Ok(0),
        Err(cause) => return Err(cause.into()),
    }
    let taken = answer(to)?;
    Ok(usize::from(taken).min(sockets.len()))
}

fn answer(to: BorrowedFd<'_>) -> io::Result<u8> {
    let mut taken = [0];
    let mut received = retry(|| recv(to, &mut taken, RecvFlags::empty()).map(|(_, bytes)| bytes));
    if received == Err(Errno::AGAIN) {
        // From here on the other side cannot answer: either it has, or it has taken nothing and never will.
        shutdown(to, Shutdown::Read)?;
        received = retry(|| recv(to, &mut taken, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes));
    }
    match received? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(taken[0]),
    }
}

/// Takes the next batch, `None` at the end. What arrived is ours once [`acknowledge`] has succeeded, and not before.
///
/// # Errors
/// The system refuses.
pub(super) fn take(from: BorrowedFd<'_>) -> io::Result<Option<Vec<OwnedFd>>> {
    let mut count = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let parts = &mut [IoSliceMut::new(&mut count)];
    let received = loop {
        match recvmsg(from, parts, &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    // If we are short of descriptors, fewer come: the first ones (unix(7), MSG_CTRUNC).
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            sockets.extend(rights);
        }
    }
    Ok(Some(sockets))
}

/// Says how many have arrived.
///
/// # Errors
/// The other side does not wait for it any more, and keeps them.
pub(super) fn acknowledge(from: BorrowedFd<'_>, arrived: usize) -> io::Result<()> {
    let arrived = [u8::try_from(arrived).unwrap_or(u8::MAX)];
    retry(|| send(from, &arrived, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Takes connections until the other side has no more, and hands each to `welcome`. Blocks. Returns how many came.
///
/// # Errors
/// The pair broke; what was handed to `welcome` is ours nevertheless.
pub fn take_all(from: &OwnedFd, mut welcome: impl FnMut(OwnedFd)) -> io::Result<usize> {
    let mut taken = 0;
    while let Some(sockets) = take(from.as_fd())? {
        acknowledge(from.as_fd(), sockets.len())?;
        taken += sockets.len();
        sockets.into_iter().for_each(&mut welcome);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn borrowed(sockets: &[UnixStream]) -> Vec<BorrowedFd<'_>> {
        sockets.iter().map(AsFd::as_fd).collect()
    }

    #[test]
    fn whoever_does_not_answer_has_taken_nothing_and_cannot_any_more() {
        let (ours, theirs) = pair().unwrap();
        set_socket_timeout(&ours, Timeout::Recv, Some(Duration::from_millis(20))).unwrap();
        let (socket, _other) = UnixStream::pair().unwrap();
        assert!(give(ours.as_fd(), &borrowed(&[socket])).is_err());
        let sockets = take(theirs.as_fd()).unwrap().unwrap();
        assert_eq!(sockets.len(), 1);
        assert!(acknowledge(theirs.as_fd(), 1).is_err());
    }

    #[test]
    fn an_answer_that_is_on_its_way_counts() {
        let (ours, theirs) = pair().unwrap();
        set_socket_timeout(&ours, Timeout::Recv, Some(Duration::from_millis(20))).unwrap();
        acknowledge(theirs.as_fd(), 1).unwrap();
        shutdown(&ours, Shutdown::Read).unwrap();
        assert_eq!(answer(ours.as_fd()).unwrap(), 1);
    }

    #[test]
    fn the_end_of_the_other_side_is_an_error_for_whoever_gives_and_the_end_for_whoever_takes() {
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        let (socket, _other) = UnixStream::pair().unwrap();
        assert!(give(ours.as_fd(), &borrowed(&[socket])).is_err());
        let (ours, theirs) = pair().unwrap();
        drop(ours);
        assert!(take(theirs.as_fd()).unwrap().is_none());
    }
}
