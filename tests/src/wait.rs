//! Waiting for a condition, with a deadline. Never for a time.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to see that something hangs.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Between two looks at a condition that cannot wake us up.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks until there is something to see.
///
/// # Panics
/// After [`DEADLINE`], with what was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    until_ok(what, || look().ok_or("there was nothing to see"))
}

/// As [`until`], and says why the last try failed.
///
/// # Panics
/// After [`DEADLINE`].
#[track_caller]
pub fn until_ok<T, E: Display>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        // Before the look: if this thread got no processor for long, it may still see what has come meanwhile.
        let last = Instant::now() >= deadline;
        match attempt() {
            Ok(done) => return done,
            Err(cause) => assert!(!last, "waited in vain until {what}: {cause}"),
        }
        std::thread::park_timeout(PAUSE);
    }
}
