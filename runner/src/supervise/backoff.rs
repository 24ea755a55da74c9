//! How long to wait before the next worker. Pure.
//!
//! A few in a row start at once: whoever crashes is quarantined after some crashes, and everybody else is to be served
//! meanwhile. After them there is one a second, however soon workers end. No longer wait: calls of all plugins wait with
//! it, and the gateway gives them 3 s.

use std::time::Duration;

/// Workers that may start one after the other without a wait.
const AT_ONCE: u32 = 5;
/// How often one more may.
const PACE: Duration = Duration::from_secs(1);

/// Counts how many workers may start at once.
#[derive(Debug)]
pub(super) struct Backoff {
    /// Time that is saved up: a start takes `PACE` of it.
    saved: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            saved: PACE * AT_ONCE,
        }
    }
}

impl Backoff {
    /// A worker ended after living this long: how long to wait before the next one.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        self.saved = (self.saved.saturating_add(lived)).min(PACE * AT_ONCE);
        let wait = PACE.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(PACE);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_crashes_are_free_and_a_row_of_them_is_one_a_second() {
        let mut backoff = Backoff::default();
        let soon = Duration::from_millis(10);
        let mut time = Duration::ZERO;
        for start in 1..=100u32 {
            let wait = backoff.after(soon);
            assert_eq!(wait.is_zero(), start <= AT_ONCE, "{start}");
            assert!(wait <= PACE);
            time += wait + soon;
        }
        assert!(time > PACE * 94, "{time:?}");
    }

    #[test]
    fn who_lives_a_second_is_replaced_at_once_for_ever() {
        let mut backoff = Backoff::default();
        assert!((0..100).all(|_| backoff.after(PACE).is_zero()));
        assert!((1..AT_ONCE).all(|_| backoff.after(Duration::ZERO).is_zero()));
        assert_eq!(backoff.after(Duration::ZERO), PACE);
        assert!(backoff.after(PACE).is_zero(), "it has saved up for one");
    }
}
