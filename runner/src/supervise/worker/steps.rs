//! What each plugin did in a call, step by step, as lines of the log: for `dev`, which starts the runner with
//! `--steps`. Reads calls, never changes one; how a step looks to people is `dev`'s business.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::request::observer::{self, Observer, Passed};
use crate::request::plugin_log::Line;
use crate::request::state::State;
use crate::request::step::Step;
use crate::telemetry::STEP_TARGET;

/// Calls in a second whose steps are told; a load test needs none of them.
const CALLS_A_SECOND: u32 = 100;
/// Bytes of a value that are told.
const MAX_VALUE: usize = 300;
/// Changes of a step that are told, and as many of its answer.
const MAX_CHANGES: usize = 20;
/// Bytes of a step: less than the log cuts a field at.
const MAX_STEP: usize = 12 << 10;

/// From now on, in this process.
pub(super) fn tell() {
    observer::watch(Box::new(Teller::default()));
}

#[derive(Default)]
struct Teller {
    /// One window of a second at a time: when it began, and the calls since.
    window: Mutex<Option<(Instant, u32)>>,
}

impl Observer for Teller {
    /// What `log` does is nothing that the client waits for.
    fn watches(&self, state: &State<'_>) -> bool {
        if state.end.is_some() {
            return false;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (started, calls) = window.get_or_insert_with(|| (Instant::now(), 0));
        if started.elapsed() >= Duration::from_secs(1) {
            (*started, *calls) = (Instant::now(), 0);
        }
        *calls += 1;
        *calls <= CALLS_A_SECOND
    }

    /// It is in the log.
    fn logged(&self, _: &Line<'_>) {}

    fn left(&self, state: &State<'_>, phase: &Passed<'_, '_>) {
        let mut step = Step::of(state, phase, MAX_VALUE);
        shorten(&mut step);
        let mut text = serde_json::to_string(&step).unwrap_or_default();
        if text.len() > MAX_STEP {
            (step.changes, step.cut) = (Vec::new(), true);
            text = serde_json::to_string(&step).unwrap_or_default();
        }
        let id = state.message.id();
        tracing::info!(target: STEP_TARGET, id, step = text, "step");
    }

    fn over(&self, state: &State<'_>) {
        tracing::info!(target: STEP_TARGET, id = state.message.id(), "over");
    }
}

/// Many changes must not hide the answer.
fn shorten(step: &mut Step) {
    let (mut changed, mut answered) = (0, 0);
    let all = step.changes.len();
    step.changes.retain(|change| {
        let count = match change.is_answer() {
            true => &mut answered,
            false => &mut changed,
        };
        *count += 1;
        *count <= MAX_CHANGES
    });
    step.cut = step.changes.len() < all;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::step::Change;

    #[test]
    fn many_changes_do_not_hide_the_answer() {
        let change = |what: &str| Change {
            what: what.to_owned(),
            after: vec!["401".to_owned()],
            ..Change::default()
        };
        let mut step = Step {
            changes: vec![change("header"); MAX_CHANGES],
            ..Step::default()
        };
        step.changes.push(change("answer"));
        shorten(&mut step);
        assert!(!step.cut);
        step.changes.insert(0, change("header"));
        shorten(&mut step);
        assert!(step.cut && step.changes.len() == MAX_CHANGES + 1);
        assert_eq!(step.answered(), Some("401"));
    }
}
