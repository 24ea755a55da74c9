//! A moment of the monotonic clock as one number: what a call notes of time, and every call does.

use std::ops::Add;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const NANOS: u64 = 1_000_000_000;

/// Nanoseconds since the machine was started. Half the words of an `Instant`, and compared and subtracted without a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This moment.
    #[inline]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        // Neither is ever negative (clock_gettime(2)).
        Self(now.tv_sec as u64 * NANOS + now.tv_nsec as u64)
    }

    /// Time since `earlier`; zero if that comes later.
    #[inline]
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since this moment.
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    /// As much earlier.
    #[cfg(test)]
    pub fn earlier(self, time: Duration) -> Self {
        Self(self.0 - time.as_nanos() as u64)
    }

    /// As nanoseconds since the machine was started; never 0 or 1.
    #[inline]
    pub fn nanos(self) -> u64 {
        self.0.max(2)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// The latest moment there is, if it would be later than that.
    #[inline]
    fn add(self, time: Duration) -> Self {
        let nanos = time.as_secs().saturating_mul(NANOS);
        let nanos = nanos.saturating_add(u64::from(time.subsec_nanos()));
        Self(self.0.saturating_add(nanos))
    }
}

/// For timers.
impl From<Moment> for tokio::time::Instant {
    fn from(moment: Moment) -> Self {
        // In this order: a thread that loses its processor in between makes the timer late, and never early.
        let left = moment.saturating_duration_since(Moment::now());
        Self::now() + left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_far_from_another_as_the_time_that_was_added() {
        let (now, time) = (Moment::now(), Duration::from_millis(1_234));
        assert_eq!((now + time).saturating_duration_since(now), time);
        assert_eq!(now.saturating_duration_since(now + time), Duration::ZERO);
        assert!(now + time > now && now + Duration::MAX > now + time);
    }

    #[test]
    fn a_timer_for_a_moment_goes_off_at_it() {
        let (before, time) = (std::time::Instant::now(), Duration::from_secs(60));
        let timer = tokio::time::Instant::from(Moment::now() + time).into_std();
        let after = std::time::Instant::now();
        assert!(timer >= before + time && timer <= after + time);
    }
}
