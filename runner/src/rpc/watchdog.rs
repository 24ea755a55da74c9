//! Sees to it that a stuck event loop is replaced.
//!
//! One thread. It ticks only while loops are at work and rests otherwise, without a single wake-up. Deadlines are
//! not its business: the connection's task on the fresh loop keeps them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::event_loops;
use super::server::Shared;
use crate::request::service::Service;

/// A loop that has been at one thing for this long is replaced. With the time the replacement takes, other calls
/// wait less than 10 ms.
pub(super) const STUCK: Duration = Duration::from_millis(5);

/// Ticks without any work before the watchdog rests.
const QUIET_TICKS: u32 = 20;

/// The side of the watchdog that the loops see.
#[derive(Debug)]
pub(super) struct Alarm {
    epoch: Instant,
    resting: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            resting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    /// Microseconds since the start, never 0.
    #[inline]
    pub(super) fn clock(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros()) + 1
    }

    /// Wakes the watchdog if it rests.
    #[inline]
    pub(super) fn rouse(&self) {
        if self.resting.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Ends the watchdog.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    #[cold]
    fn wake(&self) {
        self.resting.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Rests until roused, unless `working` says that a loop has just begun.
    fn rest(&self, working: impl FnOnce() -> bool) {
        self.resting.store(true, Ordering::SeqCst);
        if !working() && !self.stopped.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.resting.store(false, Ordering::SeqCst);
    }
}

/// Starts the watchdog's thread.
///
/// # Errors
/// No thread to be had.
pub(super) fn start<S: Service>(shared: Arc<Shared<S>>) -> std::io::Result<()> {
    let alarm = Arc::clone(&shared.alarm);
    let thread = std::thread::Builder::new()
        .name("watchdog".to_owned())
        .spawn(move || watch(&shared))?;
    // Roused only after it has rested, and `rest` looks at the loops once more before it parks.
    let _ = alarm.thread.set(thread.thread().clone());
    thread.thread().unpark();
    Ok(())
}

fn watch<S: Service>(shared: &Arc<Shared<S>>) {
    let alarm = &shared.alarm;
    let mut quiet = 0;
    while !alarm.stopped.load(Ordering::SeqCst) {
        match look(shared) {
            Some(longest) => {
                quiet = 0;
                // A call that is young now is looked at again just when it would be stuck.
                std::thread::park_timeout(STUCK.saturating_sub(longest));
            }
            None if quiet < QUIET_TICKS => {
                quiet += 1;
                std::thread::park_timeout(STUCK);
            }
            None => {
                quiet = 0;
                alarm.rest(|| {
                    shared
                        .loops
                        .current()
                        .iter()
                        .any(|each| each.busy_for(alarm).is_some())
                });
            }
        }
    }
}

/// Replaces every loop that is stuck; returns how long the longest of the others has been at work.
fn look<S: Service>(shared: &Arc<Shared<S>>) -> Option<Duration> {
    let mut longest = None;
    for event_loop in shared.loops.current() {
        let Some(busy) = event_loop.busy_for(&shared.alarm) else {
            continue;
        };
        if busy >= STUCK {
            event_loops::take_over(shared, &event_loop, busy);
        } else {
            longest = longest.max(Some(busy));
        }
    }
    longest
}
