//! Whoever watches the phases of calls: a person who tries plugins with `call` or `check`, or looks at `dev`'s page. The
//! only hook of that kind. A runner that serves a gateway has no observer, and this costs it one atomic load a call.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::plugin_log::Line;
use super::state::{Answer, Changes, State};
use crate::plugins::generation::Generation;
use crate::plugins::instance::Decision;

/// Sees what each plugin does in each phase. Never changes a call. On the thread that runs it.
pub trait Observer: Send + Sync {
    /// Whether this call is watched, or the `log` of it (then it has `state.end`). Nothing of it has run.
    fn watches(&self, state: &State<'_>) -> bool;

    /// A plugin has logged something in a phase that is watched.
    fn logged(&self, line: &Line<'_>);

    /// A phase of a plugin has ended: `state.running` says which.
    fn left(&self, state: &State<'_>, phase: &Passed<'_, '_>);

    /// The last phase before the reply has ended.
    fn over(&self, state: &State<'_>);
}

/// A phase that has run.
pub struct Passed<'a, 'c> {
    /// Whose it was.
    pub of: &'a Generation,
    /// What it decided.
    pub decision: Decision,
    /// How long it took.
    pub took: Duration,
    /// What there was before.
    pub before: Before<'c>,
}

/// What plugins had left behind before a phase.
pub struct Before<'c> {
    /// What they had changed.
    pub changes: Changes<'c>,
    /// What one of them had answered.
    pub answer: Option<Answer<'c>>,
}

static OBSERVER: OnceLock<Box<dyn Observer>> = OnceLock::new();

/// Has the calls of this process watched from now on. The first observer stays.
pub fn watch(observer: Box<dyn Observer>) {
    let _ = OBSERVER.set(observer);
}

/// Whoever watches this call.
#[inline]
pub(super) fn observer_of(state: &State<'_>) -> Option<&'static dyn Observer> {
    let observer = OBSERVER.get()?;
    observer.watches(state).then_some(&**observer)
}

/// A phase that is being watched.
pub(super) struct Watched<'c> {
    observer: &'static dyn Observer,
    before: Before<'c>,
    started: Instant,
}

/// Before a plugin runs a phase.
pub(super) fn enter<'c>(observer: &'static dyn Observer, state: &State<'c>) -> Watched<'c> {
    let before = Before {
        changes: state.changes.clone(),
        answer: state.answer.clone(),
    };
    Watched {
        observer,
        before,
        started: Instant::now(),
    }
}

impl<'c> Watched<'c> {
    /// After it.
    pub(super) fn leave(self, state: &State<'c>, of: &Generation, decision: Decision) {
        let passed = Passed {
            of,
            decision,
            took: self.started.elapsed(),
            before: self.before,
        };
        self.observer.left(state, &passed);
    }
}
