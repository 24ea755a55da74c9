//! How a connection comes to its end here: given away, closed, cut. As in `state`: under the lock, and never waiting.

use super::*;

impl<C: Call> State<C> {
    /// Answers whatever is under way with ERROR and closes. Returns a call that waited here.
    pub(in crate::rpc) fn cut(&mut self, socket: BorrowedFd<'_>) -> Option<Box<C>> {
        let asking =
            matches!(&self.phase, Phase::Running(running) if running.exchange == Exchange::Asking);
        let owed = match self.phase {
            Phase::Idle => !self.input.is_empty(),
            Phase::Leaving { .. } | Phase::Closed => false,
            _ => !asking,
        };
        if owed && self.unwritten.is_none() {
            let _ = send(socket, &error_frame(ErrorCode::ServiceUnavailable));
        }
        self.close(socket)
    }

    /// Gives up a connection at a boundary: no task serves it any more.
    pub(in crate::rpc) fn give(&mut self) -> bool {
        let given = self.at_boundary();
        if given {
            self.owner = NOBODY;
        }
        given
    }

    /// Closes a connection at a boundary that nobody is about to use.
    pub(in crate::rpc) fn close_if_idle(&mut self, socket: BorrowedFd<'_>) -> bool {
        let new = self.sequence == 0 && self.accepted.elapsed() < NEW;
        if !self.at_boundary() || new || unread(socket) {
            return false;
        }
        // From here on the gateway cannot send any more; what it sent just before is still served.
        let _ = rustix::net::shutdown(socket, Shutdown::Read);
        if unread(socket) {
            return false;
        }
        self.close(socket);
        true
    }

    pub(super) fn leave(&mut self, socket: BorrowedFd<'_>) {
        if self.unwritten.is_some() || matches!(self.phase, Phase::Closed) {
            self.close(socket);
            return;
        }
        // Not closed at once: bytes of the gateway that nobody read would turn the ERROR into a reset.
        let _ = rustix::net::shutdown(socket, Shutdown::Write);
        self.input = Input::default();
        self.phase = Phase::Leaving {
            until: Moment::now() + LEAVING,
        };
    }

    pub(in crate::rpc) fn close(&mut self, socket: BorrowedFd<'_>) -> Option<Box<C>> {
        let _ = rustix::net::shutdown(socket, Shutdown::Both);
        self.input = Input::default();
        self.unwritten = None;
        let last = std::mem::replace(&mut self.phase, Phase::Closed);
        self.wake();
        if let Phase::Pending { call, .. } | Phase::Answers { call, .. } = last {
            return Some(call);
        }
        None
    }
}
