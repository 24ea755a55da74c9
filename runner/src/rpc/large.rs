//! Whether large bodies flow, which decides what the allocator does with blocks that are freed. Fresh memory costs a
//! page fault for every 4 KiB, more time than filling it: while bodies flow, freed blocks stay. Soon after the last
//! one they go back to the system. Never touches the allocator itself: that is what the [`Settings`] name.
//!
//! [`Settings`]: super::server::Settings

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Freed blocks stay for so long after the last large frame, and for at most twice as long.
pub(super) const STAYS: Duration = Duration::from_millis(250);

/// What becomes of large blocks that are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freed {
    /// They stay, for the next large body.
    Stays,
    /// They go back to the system.
    GoesBack,
    /// The same, and so does what has stayed.
    Swept,
}

/// Bytes of a block that glibc takes for large when it is freed: it then looks whether the end of the heap that the
/// block is from can be given back, which it does for the heaps of threads at no other time.
const MARKER: usize = 128 << 10;

static FLOW: Flow = Flow {
    setting: OnceLock::new(),
    seen: AtomicBool::new(false),
    seen_ever: AtomicBool::new(false),
    period: AtomicU64::new(0),
    state: Mutex::new(State {
        periods: 0,
        markers: Vec::new(),
    }),
};

thread_local! {
    /// The period in which this thread has left a marker.
    static MARKED: Cell<u64> = const { Cell::new(0) };
}

/// One for the process, as there is one allocator.
struct Flow {
    setting: OnceLock<fn(Freed)>,
    /// There was a large frame since the last look.
    seen: AtomicBool,
    seen_ever: AtomicBool,
    /// Number of the time in which large bodies flow; 0 while none do.
    period: AtomicU64,
    state: Mutex<State>,
}

struct State {
    periods: u64,
    /// A block of each thread that had a large frame, and so of each heap that may have grown.
    markers: Vec<Vec<u8>>,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn begin(&self) {
        let mut state = self.lock();
        self.seen_ever.store(true, Ordering::Relaxed);
        if self.period.load(Ordering::Relaxed) == 0 {
            state.periods += 1;
            self.period.store(state.periods, Ordering::Relaxed);
            self.set(Freed::Stays);
        }
        MARKED.set(state.periods);
        state.markers.push(Vec::with_capacity(MARKER));
    }

    fn end(&self) {
        let mut state = self.lock();
        self.period.store(0, Ordering::Relaxed);
        self.set(Freed::GoesBack);
        state.markers = Vec::new();
        self.set(Freed::Swept);
    }

    fn set(&self, freed: Freed) {
        if let Some(setting) = self.setting.get() {
            setting(freed);
        }
    }
}

/// Says how the allocator is told; the first call counts.
pub(super) fn install(setting: fn(Freed)) {
    let _ = FLOW.setting.set(setting);
}

/// Notes that this thread handles a large frame, or has freed one.
pub(super) fn note() {
    FLOW.seen.store(true, Ordering::Relaxed);
    let period = FLOW.period.load(Ordering::Relaxed);
    if period == 0 || period != MARKED.get() {
        FLOW.begin();
    }
}

/// Whether there ever was a large frame.
#[inline]
pub(super) fn has_flowed() -> bool {
    FLOW.seen_ever.load(Ordering::Relaxed)
}

/// Whether freed blocks stay at the moment.
pub(super) fn flows() -> bool {
    FLOW.period.load(Ordering::Relaxed) != 0
}

/// Gives freed blocks back if there was no large frame since the last look. Takes milliseconds then: not for event
/// loops.
pub(super) fn look() {
    if flows() && !FLOW.seen.swap(false, Ordering::Relaxed) {
        FLOW.end();
    }
}
