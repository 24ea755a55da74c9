//! The state of one conf: how much of its rate each key has used. Bounded in memory, whatever keys clients make up.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Keys with a state of their own: about 4 MB.
const MAX_KEYS: usize = 100_000;

/// What later keys share when there are that many.
const SHARED: u64 = 1024;

/// How often keys that have their whole burst again are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// Limits by key. Keys are kept as hashes under a secret seed, so that their length costs nothing.
pub(crate) struct Limiter {
    limiter: RateLimiter<u64, HashMapStateStore<u64>, DefaultClock>,
    clock: DefaultClock,
    seed: RandomState,
    swept: Mutex<Instant>,
}

impl Limiter {
    /// `rate` a second after `burst` at once; `None` for a rate that has no period in nanoseconds.
    pub(crate) fn new(rate: f64, burst: NonZeroU32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(rate.recip()).ok()?;
        let quota = Quota::with_period(period)?.allow_burst(burst);
        Some(Self {
            limiter: RateLimiter::hashmap(quota),
            clock: DefaultClock::default(),
            seed: RandomState::new(),
            swept: Mutex::new(Instant::now()),
        })
    }

    /// Takes one request of the key's rate. `None` is a key like any other.
    ///
    /// # Errors
    /// The rate is used up; there is more after this time.
    pub(crate) fn take(&self, key: Option<&[u8]>) -> Result<(), Duration> {
        let own = self.seed.hash_one(key);
        let key = if self.is_full() { own % SHARED } else { own };
        let taken = self.limiter.check_key(&key);
        taken.map_err(|used_up| used_up.wait_time_from(self.clock.now()))
    }

    fn is_full(&self) -> bool {
        if self.sweep_is_due() {
            self.limiter.retain_recent();
        }
        self.limiter.len() >= MAX_KEYS
    }

    /// True for one of the callers at a time; nobody waits for another.
    fn sweep_is_due(&self) -> bool {
        let mut swept = match self.swept.try_lock() {
            Ok(swept) => swept,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        let due = swept.elapsed() >= SWEEP;
        if due {
            *swept = Instant::now();
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: f64) -> Limiter {
        Limiter::new(rate, NonZeroU32::MIN).unwrap()
    }

    #[test]
    fn keys_that_clients_make_up_do_not_fill_the_memory() {
        let limiter = limiter(0.001);
        let keys = (0..2 * MAX_KEYS).map(|key| key.to_le_bytes());
        let refused = keys.filter(|key| limiter.take(Some(key)).is_err()).count();
        assert!(limiter.limiter.len() <= MAX_KEYS + SHARED as usize);
        // Full: the later ones share what is left.
        assert!(refused >= MAX_KEYS - 2 * SHARED as usize, "{refused}");
    }

    #[test]
    fn a_key_that_has_its_whole_burst_again_is_forgotten() {
        let limiter = limiter(1_000_000.0);
        assert!(limiter.take(Some(b"a")).is_ok());
        *limiter.swept.lock().unwrap() -= SWEEP;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !limiter.limiter.is_empty() {
            assert!(Instant::now() < deadline);
            *limiter.swept.lock().unwrap() -= SWEEP;
            limiter.is_full();
        }
    }

    #[test]
    fn a_rate_without_a_period_is_none() {
        for rate in [0.0, -1.0, 1e-30, 1e30, f64::NAN, f64::INFINITY] {
            assert!(Limiter::new(rate, NonZeroU32::MIN).is_none(), "{rate}");
        }
    }
}
