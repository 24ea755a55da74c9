//! Waiting for a condition, with a deadline. Never for a time.

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
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::park_timeout(PAUSE);
    }
}
