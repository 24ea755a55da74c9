//! Runs one call to its end on the current thread: the chain, the one reply, the end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::connection::{Connection, Turn};
use super::exchange::Line;
use super::{buffers, large};
use crate::protocol::{frame, message};
use crate::request::service::{Blame, Call, ErrorCode};

/// Runs `call` and replies for it, unless its deadline was faster: then what it wrote is dropped. Returns whether
/// the connection is at a boundary again.
#[inline(always)]
pub(super) fn run<C: Call>(
    connection: &Connection<C>,
    turn: Turn,
    mut call: C,
    blame: &Blame,
) -> bool {
    let mut out = buffers::take();
    let mut line = Line { connection, turn };
    let ran = catch_unwind(AssertUnwindSafe(|| {
        call.run(turn.deadline, blame, &mut line, &mut out);
    }));
    if ran.is_err() || out.len() < frame::HEADER {
        tracing::error!("a call ended without a reply: this is a fault of the runner");
        out.clear();
        message::error(&mut out, ErrorCode::ServiceUnavailable);
    }
    let replied = match call.long_reply() {
        None => {
            if out.capacity() > buffers::KEPT_ROOM {
                large::note();
            }
            connection.reply(turn, out)
        }
        Some(long) => {
            large::note();
            buffers::give(out);
            connection.reply_from(turn, long.bytes, long.from)
        }
    };
    let is_large = large::has_flowed() && call.holds() > buffers::KEPT_ROOM;
    buffers::give(call.finish(replied.sent));
    if is_large {
        // Only now its memory is free, perhaps long after it came.
        large::note();
    }
    replied.at_boundary
}
