//! What the clients and those who disturb the runner tell each other, and what is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Faults that are kept in words.
const TOLD: usize = 20;

/// Shared by all threads.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The newest build that lies in the folder, or did.
    laid: AtomicU64,
    /// The newest build of which the runner has said that it serves.
    served: AtomicU64,
    /// Crashes that were caused so far.
    crashes: AtomicU64,
    /// Something is being done to the runner: what was measured before was the calm.
    disturbed: AtomicBool,
    stopped: AtomicBool,
    counts: Mutex<Counts>,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Calls that were answered rightly.
    pub calls: u64,
    /// Calls whose connection closed, by cause.
    pub lost: BTreeMap<&'static str, u64>,
    /// Connections that closed without a call in flight, by cause.
    pub closed: BTreeMap<&'static str, u64>,
    /// ERROR frames.
    pub error_frames: u64,
    /// Answers of another route, call or build than the one asked for.
    pub wrong: u64,
    /// What breaks a promise, in words: the first ones.
    pub faults: Vec<String>,
    /// All of them.
    pub faulty: u64,
    /// From wanting an answer to having a right one, before anything was done to the runner.
    pub before: Times,
    /// Since then, but for calls that met a crash.
    pub during: Times,
    /// Calls that met a crash: with the waiting and, if lost, the call that was made instead.
    pub crashed: Times,
    /// From a crash, or the last answer of the worker that ended if that came later, to the first right answer on a new
    /// connection.
    pub recoveries: Vec<Duration>,
    /// What the clients needed themselves.
    pub client: Effort,
}

/// What a thread has used, as parts of the time since it began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// It ran.
    pub ran: f64,
    /// It could have run, and there was no processor for it.
    pub waited: f64,
}

impl Effort {
    /// Of this thread, that began to work then. Zeros where the kernel does not count it.
    pub fn of_this_thread(since: Instant) -> Self {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut nanoseconds = text.split_whitespace().filter_map(|word| word.parse().ok());
        let whole = since.elapsed().as_nanos() as f64;
        let mut part = || nanoseconds.next().unwrap_or(0.0) / whole;
        Self {
            ran: part(),
            waited: part(),
        }
    }
}

/// How long something took, each time.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        // Microseconds up to two minutes, to three digits.
        let histogram = Histogram::new_with_bounds(1, 120_000_000, 3);
        Self(histogram.expect("the bounds are in order"))
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    /// In milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// In milliseconds.
    pub fn longest(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// How a call fared with regard to crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// None happened.
    Calm,
    /// At least one did.
    Crash,
}

impl Ledger {
    /// A build is about to be laid.
    pub fn lay(&self, build: u64) {
        self.laid.store(build, Ordering::SeqCst);
    }

    /// The runner says that a build serves.
    pub fn serves(&self, build: u64) {
        self.served.store(build, Ordering::SeqCst);
    }

    /// The builds that may answer a call that is sent now, if it is answered at once.
    pub fn builds(&self) -> (u64, u64) {
        let served = self.served.load(Ordering::SeqCst);
        (served, self.laid.load(Ordering::SeqCst))
    }

    /// A crash is about to be caused.
    pub fn crash(&self) -> u64 {
        self.crashes.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Crashes caused so far.
    pub fn crashes(&self) -> u64 {
        self.crashes.load(Ordering::SeqCst)
    }

    /// From now on something is done to the runner.
    pub fn disturb(&self) {
        self.disturbed.store(true, Ordering::SeqCst);
    }

    /// Ends the clients.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether the clients are to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    /// Looks at what was counted so far.
    pub fn look<T>(&self, look: impl FnOnce(&Counts) -> T) -> T {
        look(&self.lock())
    }

    /// A right answer, so long after it was wanted.
    pub fn answered(&self, waited: Duration, met: Met) {
        let mut counts = self.lock();
        counts.calls += 1;
        let times = match met {
            Met::Crash => &mut counts.crashed,
            Met::Calm if self.disturbed.load(Ordering::SeqCst) => &mut counts.during,
            Met::Calm => &mut counts.before,
        };
        times.add(waited);
    }

    /// The first right answer after a crash.
    pub fn recovered(&self, since: Instant) {
        self.lock().recoveries.push(since.elapsed());
    }

    /// How long the newest recovery took.
    pub fn last_recovery(&self) -> Option<Duration> {
        self.lock().recoveries.last().copied()
    }

    /// What the clients needed.
    pub fn client(&self, effort: Effort) {
        self.lock().client = effort;
    }

    /// A call was lost with its connection, because of that.
    pub fn lost(&self, cause: &'static str) {
        *self.lock().lost.entry(cause).or_default() += 1;
    }

    /// A connection without a call in flight was closed, because of that.
    pub fn closed(&self, cause: &'static str) {
        *self.lock().closed.entry(cause).or_default() += 1;
    }

    /// An answer was not what it had to be.
    pub fn wrong(&self, what: String) {
        self.lock().wrong += 1;
        self.fault(what);
    }

    /// The runner answered with an error.
    pub fn error_frame(&self, what: String) {
        self.lock().error_frames += 1;
        self.fault(what);
    }

    /// A promise is broken.
    pub fn fault(&self, what: String) {
        let mut counts = self.lock();
        counts.faulty += 1;
        if counts.faults.len() < TOLD {
            counts.faults.push(what);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
