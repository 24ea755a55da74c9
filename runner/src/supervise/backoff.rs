//! How long to wait before the next worker. Pure.

use std::time::Duration;

/// A worker that ended sooner than this did not get anywhere.
const SOON: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts workers that ended soon, one after the other.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    soon: u32,
}

impl Backoff {
    /// A worker ended after living this long: how long to wait. The first one is replaced at once.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        self.soon = if lived < SOON { self.soon + 1 } else { 0 };
        match self.soon {
            0 | 1 => Duration::ZERO,
            more => LONGEST.min(FIRST * 2u32.saturating_pow((more - 2).min(16))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_crash_is_free_and_a_row_of_them_is_not() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9)
            .map(|_| backoff.after(SOON / 2).as_millis())
            .collect();
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(SOON), Duration::ZERO);
        assert_eq!(backoff.after(SOON / 2), Duration::ZERO);
        assert_eq!(backoff.after(SOON / 2), FIRST);
    }
}
