//! What has arrived on a connection and is not a whole frame yet. Knows lengths, never meanings.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{buffers, large};
use crate::protocol::frame;
use crate::protocol::payload::Payload;

/// A buffer that is full grows to so many times what has arrived, so that a frame's length, announced, takes no more
/// addresses than that, and hardly more memory than its bytes: what is not written to takes none. From [`buffers::ROOM`] to the
/// longest frame it grows twice, and moves 1 MiB then.
const GROWTH: usize = 64;

/// Bytes read from a connection, up to the end of the frame in progress and whatever was glued to it.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
}

/// The outcome of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// Bytes came. `drained`: they were all there was, the next ones raise a new readiness event.
    Some { drained: bool },
    /// Nothing to read now.
    Nothing,
    /// The peer closed its side, or the connection is broken.
    End,
}

impl Input {
    /// Whether no byte of a frame has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads once, as much as there is room for.
    pub(super) fn fill(&mut self, socket: BorrowedFd<'_>) -> Filled {
        let room = self.make_room();
        // Not `read`, which asks more questions about the descriptor: some 20 ns.
        let bytes = rustix::buffer::spare_capacity(&mut self.bytes);
        match rustix::net::recv(socket, bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Filled::End,
            Ok((_, read)) => Filled::Some {
                drained: read < room,
            },
            Err(Errno::AGAIN | Errno::INTR) => {
                self.rest();
                Filled::Nothing
            }
            Err(_) => Filled::End,
        }
    }

    /// Takes the next whole frame: its kind and payload.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(u8, Payload)> {
        let (kind, len) = frame::header(&self.bytes)?;
        let len = frame::HEADER + len;
        let glued = self.bytes.get(len..)?;
        let rest = match glued {
            [] => Vec::new(),
            glued => {
                let mut rest = buffers::take();
                rest.extend_from_slice(glued);
                rest
            }
        };
        let mut whole = std::mem::replace(&mut self.bytes, rest);
        whole.truncate(len);
        Some((kind, Payload::of_frame(whole)))
    }

    /// Grows in steps as bytes arrive: an announced length alone takes no memory.
    fn make_room(&mut self) -> usize {
        if self.bytes.capacity() == 0 {
            self.bytes = buffers::take();
        }
        let have = self.bytes.len();
        if have == self.bytes.capacity() {
            let header = frame::header(&self.bytes);
            let whole = frame::HEADER + header.map_or(0, |(_, len)| len);
            // Few steps, as each may copy what has arrived. One byte more than the frame needs, so that its last read is
            // known to have drained the socket.
            let wanted = (have * GROWTH)
                .min(whole.saturating_add(1))
                .max(have + frame::HEADER);
            if wanted > buffers::KEPT_ROOM {
                large::note();
            }
            self.bytes.reserve_exact(wanted - have);
        }
        self.bytes.capacity() - have
    }

    /// Gives the buffer back while nothing is in it.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            buffers::give(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn an_announced_length_alone_takes_no_memory() {
        let (ours, mut theirs) = pair();
        theirs.write_all(&[2, 0xff, 0xff, 0xff, 1, 2, 3]).unwrap();
        let mut input = Input::default();
        assert_eq!(input.fill(ours.as_fd()), Filled::Some { drained: true });
        assert!(input.next().is_none());
        assert_eq!(input.fill(ours.as_fd()), Filled::Nothing);
        assert!(input.bytes.capacity() <= buffers::ROOM * 4);
    }

    #[test]
    fn a_connection_at_rest_holds_no_buffer() {
        let (ours, mut theirs) = pair();
        theirs.write_all(&[2, 0, 0, 1, 7]).unwrap();
        let mut input = Input::default();
        assert_eq!(input.fill(ours.as_fd()), Filled::Some { drained: true });
        let frame = input.next().map(|(kind, payload)| (kind, payload.to_vec()));
        assert_eq!(frame, Some((2, vec![7])));
        assert_eq!(input.fill(ours.as_fd()), Filled::Nothing);
        assert_eq!(input.bytes.capacity(), 0);
    }
}
