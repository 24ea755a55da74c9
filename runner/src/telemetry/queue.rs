//! Lines that wait to be written. Putting one in takes a lock that is never held across I/O;
//! what does not fit is dropped and counted. Bounded in bytes: lines differ in size by a
//! thousand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that may wait. At 150 bytes a line some 7,000 lines.
const CAPACITY: usize = 1 << 20;

/// Lines that this process has dropped.
pub(super) static DROPPED: AtomicU64 = AtomicU64::new(0);

pub(super) struct Queue {
    state: Mutex<State>,
    /// Something for the writer came in.
    filled: Condvar,
    /// The writer has written all it took.
    written: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    lines: u64,
    /// Lines for which there was no room, or that could not be written.
    dropped: u64,
    reopen: bool,
    /// The writer has taken lines and not said yet that they are written.
    writing: bool,
}

/// What the writer shall do next.
pub(super) struct Batch {
    /// Whole lines, each with its line break.
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
    /// Open the file again first.
    pub(super) reopen: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Adds a line and its line break, or counts it as dropped.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.bytes.len() + line.len() >= CAPACITY {
            state.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes.extend_from_slice(line);
        state.bytes.push(b'\n');
        state.lines += 1;
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.filled.notify_one();
    }

    /// Waits for work. `spare` is an empty buffer that takes the place of the one handed out.
    pub(super) fn take(&self, spare: Vec<u8>) -> Batch {
        let idle = |state: &mut State| state.bytes.is_empty() && !state.reopen;
        let state = self.lock();
        let waited = self.filled.wait_while(state, idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.writing = true;
        Batch {
            bytes: std::mem::replace(&mut state.bytes, spare),
            lines: std::mem::take(&mut state.lines),
            reopen: std::mem::take(&mut state.reopen),
        }
    }

    /// Says that the last batch is done with, `lost` of its lines unwritten.
    pub(super) fn done(&self, lost: u64) {
        let mut state = self.lock();
        state.dropped += lost;
        DROPPED.fetch_add(lost, Ordering::Relaxed);
        state.writing = false;
        drop(state);
        self.written.notify_all();
    }

    /// How many lines were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Waits until everything is written, `patience` at most.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while state.writing || state.reopen || !state.bytes.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.written.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
