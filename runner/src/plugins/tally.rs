//! What a generation has done, for people who ask. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Bytes of an error's text that are kept.
const LONGEST: usize = 1000;

/// Counts of one generation, since its worker loaded it.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    last_error: Mutex<Option<(SystemTime, String)>>,
}

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Phases that ran.
    pub calls: u64,
    /// Phases that failed, panics among them, and calls that passed their deadline in it.
    pub errors: u64,
    /// Phases that panicked.
    pub panics: u64,
    /// The newest failure.
    pub last_error: Option<(SystemTime, String)>,
}

impl Tally {
    /// A phase runs.
    #[inline]
    pub fn ran(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A phase failed.
    pub fn failed(&self, panicked: bool, error: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.panics
            .fetch_add(u64::from(panicked), Ordering::Relaxed);
        // Where everything fails at once, whoever comes first says why.
        if let Ok(mut last) = self.last_error.try_lock() {
            let text = error.chars().take(LONGEST).collect();
            *last = Some((SystemTime::now(), text));
        }
    }

    /// All of it.
    pub fn counts(&self) -> Counts {
        let last_error = self.last_error.lock();
        Counts {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            last_error: last_error.unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
