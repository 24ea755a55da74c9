//! The state of one conf: how much of its rate each key has used. Bounded in memory, whatever keys clients make up.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::{HashMapStateStore, ShrinkableKeyedStateStore};
use governor::{Quota, RateLimiter};
use plugin_api::{Error, Result, State, bail};
use siphasher::sip::SipHasher13;

/// Keys with a state of their own: about 3 MB, and all of them fit into a [`State`].
const MAX_KEYS: usize = 60_000;

/// What later keys share when there are that many.
const SHARED: u64 = 1024;

/// How often keys that have their whole burst again are forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The form of an exported state: two numbers of the seed, then for each key its hash and the nanoseconds until it has its
/// whole burst again; all of them 64 bits, little-endian.
const VERSION: u32 = 1;

/// Limits by key. Keys are kept as hashes under a secret seed, so that their length costs nothing.
pub(crate) struct Limiter {
    limiter: RateLimiter<u64, Used, DefaultClock>,
    used: Used,
    clock: DefaultClock,
    started: Instant,
    /// Nanoseconds after which a key has its whole burst again.
    whole: u64,
    /// Chosen with the first request, unless a predecessor's was taken over.
    seed: OnceLock<[u64; 2]>,
    swept: Mutex<Instant>,
}

/// The state of each key: when it has its whole burst again, in nanoseconds from the limiter's start (in GCRA, its
/// theoretical arrival time). The limiter has one handle, and who hands the state on the other.
#[derive(Clone, Default)]
struct Used(Arc<HashMapStateStore<u64>>);

impl StateStore for Used {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> std::result::Result<T, E>
    where
        F: Fn(Option<Nanos>) -> std::result::Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, f)
    }
}

impl ShrinkableKeyedStateStore<u64> for Used {
    fn retain_recent(&self, drop_below: Nanos) {
        self.0.retain_recent(drop_below);
    }

    fn len(&self) -> usize {
        ShrinkableKeyedStateStore::len(&*self.0)
    }

    fn is_empty(&self) -> bool {
        ShrinkableKeyedStateStore::is_empty(&*self.0)
    }
}

impl Used {
    fn keys(&self) -> Vec<u64> {
        self.0.lock().keys().copied().collect()
    }

    fn get(&self, key: u64) -> u64 {
        let look = |at: Option<Nanos>| Err::<((), Nanos), _>(at.map_or(0, Nanos::as_u64));
        self.0.measure_and_replace(&key, look).err().unwrap_or(0)
    }

    fn at_least(&self, key: u64, at: u64) {
        let later = |known: Option<Nanos>| {
            let at = known.map_or(at, |known| at.max(known.as_u64()));
            Ok::<_, ()>(((), Nanos::new(at)))
        };
        // It always agrees.
        let _ = self.0.measure_and_replace(&key, later);
    }
}

impl Limiter {
    /// `rate` a second after `burst` at once; `None` for a rate that has no period in nanoseconds.
    pub(crate) fn new(rate: f64, burst: NonZeroU32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(rate.recip()).ok()?;
        let quota = Quota::with_period(period)?.allow_burst(burst);
        let (used, clock) = (Used::default(), DefaultClock::default());
        Some(Self {
            started: Instant::now(),
            limiter: RateLimiter::new(quota, used.clone(), clock.clone()),
            used,
            clock,
            whole: nanos(period.saturating_mul(burst.get())),
            seed: OnceLock::new(),
            swept: Mutex::new(Instant::now()),
        })
    }

    /// Takes one request of the key's rate. `None` is a key like any other.
    ///
    /// # Errors
    /// The rate is used up; there is more after this time.
    pub(crate) fn take(&self, key: Option<&[u8]>) -> std::result::Result<(), Duration> {
        let own = self.hash(key);
        let key = if self.is_full() { own % SHARED } else { own };
        let taken = self.limiter.check_key(&key);
        taken.map_err(|used_up| used_up.wait_time_from(self.clock.now()))
    }

    /// What each key has used; `None` when none has.
    pub(crate) fn export(&self) -> Option<State> {
        let now = nanos(self.started.elapsed());
        let mut state: Vec<u8> = self.seed.get()?.map(u64::to_le_bytes).concat();
        for key in self.used.keys() {
            let left = self.used.get(key).saturating_sub(now);
            if left > 0 && state.len() + 16 <= State::MAX_LEN {
                state.extend([key, left].map(u64::to_le_bytes).as_flattened());
            }
        }
        (state.len() > 16).then(|| State::new(VERSION, state))
    }

    /// Goes on where a predecessor has stopped. The time in between is given to nobody.
    ///
    /// # Errors
    /// It has another form, or requests were counted already.
    pub(crate) fn import(&self, state: &State) -> Result<()> {
        let chunks = state.data.chunks_exact(8);
        let rest = chunks.remainder();
        let mut numbers =
            chunks.map(|number| u64::from_le_bytes(number.try_into().unwrap_or_default()));
        let (Some(first), Some(second)) = (numbers.next(), numbers.next()) else {
            bail!("it is too short");
        };
        if state.version != VERSION || !rest.is_empty() || numbers.len() % 2 != 0 {
            bail!(
                "version {} with {} bytes is of another form",
                state.version,
                state.data.len()
            );
        }
        self.seed
            .set([first, second])
            .map_err(|_| Error::new("requests were counted already"))?;
        let now = nanos(self.started.elapsed());
        while let (Some(key), Some(left)) = (numbers.next(), numbers.next()) {
            self.used
                .at_least(key, now.saturating_add(left.min(self.whole)));
        }
        Ok(())
    }

    /// The same for the same seed, whatever build or compiler.
    fn hash(&self, key: Option<&[u8]>) -> u64 {
        let [first, second] = *self.seed.get_or_init(|| {
            let random = RandomState::new();
            [random.hash_one(0), random.hash_one(1)]
        });
        let hasher = SipHasher13::new_with_keys(first, second);
        // No value and the empty value are one and the same: see `Key::value`.
        hasher.hash(key.unwrap_or_default())
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
    fn a_successor_goes_on_where_its_predecessor_has_stopped() {
        let first = Limiter::new(0.001, NonZeroU32::new(3).unwrap()).unwrap();
        assert_eq!(first.export(), None, "nobody has come yet");
        for _ in 0..2 {
            assert!(first.take(Some(b"a")).is_ok());
        }
        assert!(first.take(None).is_ok());
        let state = first.export().unwrap();
        assert_eq!((state.version, state.data.len()), (VERSION, 16 + 2 * 16));

        let second = Limiter::new(0.001, NonZeroU32::new(3).unwrap()).unwrap();
        second.import(&state).unwrap();
        assert!(second.take(Some(b"a")).is_ok());
        assert!(second.take(Some(b"a")).is_err(), "the burst is used up");
        assert!(second.take(None).is_ok());
        let passing = |key| (0..9).filter(|_| second.take(key).is_ok()).count();
        assert_eq!((passing(None), passing(Some(b"b"))), (1, 3));
        assert!(second.import(&state).is_err(), "it has counted already");
    }

    #[test]
    fn all_keys_fit_into_a_state() {
        let limiter = limiter(0.001);
        for key in 0..2 * MAX_KEYS {
            let _ = limiter.take(Some(&key.to_le_bytes()));
        }
        let state = limiter.export().unwrap();
        assert_eq!(state.data.len(), 16 + 16 * limiter.limiter.len());
        assert!(state.data.len() > 16 * MAX_KEYS && state.data.len() <= State::MAX_LEN);
    }

    #[test]
    fn a_state_of_another_form_is_refused_and_no_number_in_it_locks_a_key_for_ever() {
        let state = |version, numbers: &[u64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|it| it.to_le_bytes()).collect();
            State::new(version, bytes)
        };
        for wrong in [
            state(2, &[1, 2]),
            state(1, &[1]),
            state(1, &[1, 2, 3]),
            State::new(1, [0; 33]),
        ] {
            assert!(limiter(0.001).import(&wrong).is_err(), "{wrong:?}");
        }
        let limiter = limiter(1_000.0);
        let key = limiter.hash(None);
        let [first, second] = *limiter.seed.get().unwrap();
        let other = self::limiter(1_000.0);
        other
            .import(&state(1, &[first, second, key, u64::MAX]))
            .unwrap();
        let wait = other.take(None).unwrap_err();
        assert!(wait <= Duration::from_millis(2), "{wait:?}");
    }

    #[test]
    fn a_rate_without_a_period_is_none() {
        for rate in [0.0, -1.0, 1e-30, 1e30, f64::NAN, f64::INFINITY] {
            assert!(Limiter::new(rate, NonZeroU32::MIN).is_none(), "{rate}");
        }
    }
}
