//! Whoever watches the phases of calls: a person who tries plugins with `call` or `check`. A runner that serves a gateway
//! has no observer, and this costs it one look at a pointer for each phase of a plugin.

use std::sync::OnceLock;
use std::time::Duration;

use super::state::State;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Decision;

/// Sees what each plugin does in each phase.
pub trait Observer: Send + Sync {
    /// A phase of a plugin begins: `state.running` says which. On the thread that runs it.
    fn enters(&self, state: &State<'_>);

    /// It has ended.
    fn left(&self, state: &State<'_>, of: &Generation, decision: Decision, took: Duration);
}

static OBSERVER: OnceLock<Box<dyn Observer>> = OnceLock::new();

/// Has all calls of this process watched from now on. The first observer stays.
pub fn watch(observer: Box<dyn Observer>) {
    let _ = OBSERVER.set(observer);
}

/// The observer.
#[inline]
pub(super) fn observer() -> Option<&'static dyn Observer> {
    OBSERVER.get().map(|observer| &**observer)
}
