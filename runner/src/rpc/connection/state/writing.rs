//! How replies and questions go out: at once as far as the socket takes them. As in `state`: under the lock, and never waiting.

use super::*;

impl<C: Call> State<C> {
    /// Replies to `turn` with `bytes` behind `from`, unless it was answered already. Returns whether the reply went out.
    #[inline(always)]
    pub(in crate::rpc) fn reply(
        &mut self,
        socket: BorrowedFd<'_>,
        turn: Turn,
        bytes: Vec<u8>,
        from: usize,
    ) -> bool {
        let Some(running) = self.running(turn) else {
            buffers::give(bytes);
            return false;
        };
        match running.exchange {
            Exchange::None => {
                drop((running.watched.take(), running.blame.take()));
                // What else there is needs no drop: a call less.
                mem::forget(mem::replace(&mut self.phase, Phase::Idle));
                self.write_from(socket, bytes, from)
            }
            Exchange::Open => {
                let sent = self.write_from(socket, bytes, from);
                self.leave(socket);
                sent
            }
            Exchange::Asking => {
                self.close(socket);
                false
            }
        }
    }

    /// Writes as much of `bytes` as the socket takes and keeps the rest. `false`: the connection is broken.
    pub(in crate::rpc) fn write(&mut self, socket: BorrowedFd<'_>, bytes: Vec<u8>) -> bool {
        self.write_from(socket, bytes, 0)
    }

    #[inline]
    fn write_from(&mut self, socket: BorrowedFd<'_>, bytes: Vec<u8>, from: usize) -> bool {
        if self.unwritten.is_some() {
            return false; // something is half written: nothing else can be said
        }
        let sent = send(socket, bytes.get(from..).unwrap_or_default());
        match sent.map(|sent| from + sent) {
            Ok(written) if written == bytes.len() => {
                buffers::give(bytes);
                true
            }
            Ok(written) => {
                self.unwritten = Some(Unwritten {
                    bytes,
                    written,
                    since: Moment::now(),
                });
                true
            }
            Err(_) => {
                // Only reached without a waiting call, or with one that its own task ends when it finds nobody there.
                if matches!(self.phase, Phase::Idle) {
                    self.close(socket);
                }
                false
            }
        }
    }

    /// Writes more of what is left, but not so much that other connections would have to wait.
    pub(in crate::rpc) fn flush(&mut self, socket: BorrowedFd<'_>) -> Flushed {
        let Some(unwritten) = &mut self.unwritten else {
            return Flushed::All;
        };
        let rest = unwritten.bytes.get(unwritten.written..).unwrap_or_default();
        let turn = rest.get(..FLUSHED_AT_ONCE).unwrap_or(rest);
        match send(socket, turn) {
            Ok(written) if written == rest.len() => {
                if let Some(done) = self.unwritten.take() {
                    buffers::give(done.bytes);
                }
                Flushed::All
            }
            Ok(written) => {
                unwritten.written += written;
                if written == turn.len() {
                    Flushed::Turn
                } else {
                    Flushed::Full
                }
            }
            Err(_) => {
                self.unwritten = None;
                Flushed::All
            }
        }
    }
}
