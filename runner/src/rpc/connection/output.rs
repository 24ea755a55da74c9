//! Writing to the gateway without ever waiting for it.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::protocol::message;
use crate::request::moment::Moment;
use crate::request::service::ErrorCode;
use crate::rpc::buffers;

/// The rest of a frame that the gateway has not taken yet.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) bytes: Vec<u8>,
    pub(super) written: usize,
    pub(super) since: Moment,
}

/// What writing more of it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rpc) enum Flushed {
    /// Nothing is left, or it is another loop's.
    All,
    /// There is more, and it is the turn of others.
    Turn,
    /// The socket takes no more now.
    Full,
}

/// An ERROR frame of its own.
pub(in crate::rpc) fn error_frame(code: ErrorCode) -> Vec<u8> {
    let mut frame = buffers::take();
    message::error(&mut frame, code);
    frame
}

/// Writes without waiting. A full socket counts as zero bytes written.
pub(in crate::rpc) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<usize> {
    loop {
        // A plugin may have changed what SIGPIPE does.
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            other => return other,
        }
    }
}

/// Whether bytes wait that nobody has read.
pub(super) fn unread(socket: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}
