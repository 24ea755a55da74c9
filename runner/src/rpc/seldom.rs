//! Keeps a message that the gateway could cause at any rate from filling the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A message is logged at most once in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// When a message was logged last.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether the message may be logged now.
    pub(super) fn allows(&self) -> bool {
        let Ok(mut last) = self.0.lock() else {
            return false;
        };
        let now = Instant::now();
        let quiet = last.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if quiet {
            *last = Some(now);
        }
        quiet
    }
}
