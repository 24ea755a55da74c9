//! Spare buffers of each thread, so that a call on the plain path allocates nothing.
//!
//! A connection at rest holds no buffer: it takes one when bytes arrive, and 5,000 idle connections cost no
//! buffers at all. Large buffers are not kept.

use std::cell::RefCell;

use super::large;

/// Room of a fresh buffer in bytes: a usual call (1 kB) arrives in one read.
pub(super) const ROOM: usize = 16 * 1024;

/// A buffer that grew beyond this is freed instead of kept.
pub(super) const KEPT_ROOM: usize = 64 * 1024;

/// Spare buffers per thread: a call takes one for its frame and one for its reply. Threads for calls that block get one of
/// them from the loop with each call and give none back, so that each of hundreds of threads comes to keep as many.
const KEPT: usize = 2;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with at least [`ROOM`] bytes of room.
pub(super) fn take() -> Vec<u8> {
    SPARE
        .try_with(|spare| spare.try_borrow_mut().ok()?.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(ROOM))
}

/// Keeps `buffer` for a later [`take`] on this thread, if it is of a usual size and not one too many.
#[inline]
pub(super) fn give(mut buffer: Vec<u8>) {
    let room = buffer.capacity();
    if !(ROOM..=KEPT_ROOM).contains(&room) {
        drop(buffer);
        if room > KEPT_ROOM {
            large::note();
        }
        return;
    }
    buffer.clear();
    // Fails only while the thread ends: then the buffer is simply freed.
    let _ = SPARE.try_with(|spare| {
        if let Ok(mut spare) = spare.try_borrow_mut()
            && spare.len() < KEPT
        {
            spare.push(buffer);
        }
    });
}
