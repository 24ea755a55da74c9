//! Promises that are times. Cargo runs this program when no other test runs, and its tests run one after the other: what is
//! measured is the runner, and not the tests beside it. What needs no clock is in `e2e`.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, and says where"
)]

mod binding_cost;
mod stopping;
mod waiting;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// No other test of this program runs until it is dropped. The first thing of a test: what it starts has ended before.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
