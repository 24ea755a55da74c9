//! Says for which of many equal events a line is worth writing. Writes none itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A cause is logged this often at most.
const PAUSE: Duration = Duration::from_secs(10);
/// Causes kept apart; further ones share one place. A client may invent causes.
const MAX_CAUSES: usize = 256;
/// The place of the causes that found no place of their own.
const THE_REST: u64 = 0;

/// Holds back repeated causes: the first is logged, then one in ten seconds, with the number of
/// those left out. Any thread may ask.
///
/// Causes are told apart by a hash: an author's text may be megabytes long.
#[derive(Debug, Default)]
pub struct Repeated {
    causes: Mutex<HashMap<u64, Cause>>,
    hash: RandomState,
}

#[derive(Debug)]
struct Cause {
    logged: Instant,
    left_out: u64,
}

impl Repeated {
    /// Starts with nothing seen.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to log this one: `Some` with how many of that cause were left out before it.
    pub fn admit(&self, cause: &str) -> Option<u64> {
        self.admit_at(cause, Instant::now())
    }

    fn admit_at(&self, cause: &str, now: Instant) -> Option<u64> {
        let cause = self.hash.hash_one(cause);
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() >= MAX_CAUSES && !causes.contains_key(&cause) {
            causes.retain(|_, cause| now.duration_since(cause.logged) < PAUSE);
        }
        let full = causes.len() >= MAX_CAUSES && !causes.contains_key(&cause);
        let key = if full { THE_REST } else { cause };
        let Some(known) = causes.get_mut(&key) else {
            let (logged, left_out) = (now, 0);
            causes.insert(key, Cause { logged, left_out });
            return Some(0);
        };
        if now.duration_since(known.logged) < PAUSE {
            known.left_out += 1;
            return None;
        }
        known.logged = now;
        Some(std::mem::take(&mut known.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_logged_once_in_ten_seconds_with_the_number_left_out() {
        let repeated = Repeated::new();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeated.admit_at("truncated", at(0)), Some(0));
        assert_eq!(repeated.admit_at("truncated", at(1)), None);
        assert_eq!(repeated.admit_at("garbage", at(1)), Some(0));
        assert_eq!(repeated.admit_at("truncated", at(9)), None);
        assert_eq!(repeated.admit_at("truncated", at(10)), Some(2));
        assert_eq!(repeated.admit_at("truncated", at(20)), Some(0));
    }

    #[test]
    fn invented_causes_do_not_fill_the_memory_nor_the_log() {
        let repeated = Repeated::new();
        let now = Instant::now();
        let admit = |number: u32| repeated.admit_at(&number.to_string(), now).is_some();
        let logged = (0..10_000).filter(|number| admit(*number)).count();
        assert_eq!(logged, MAX_CAUSES + 1);
        let causes = repeated.causes.lock().unwrap().len();
        assert_eq!(causes, MAX_CAUSES + 1);
    }
}
