//! Runs the plugins of a call: all run one phase, then all run the next. Ends at the first answer.

pub(super) mod runloop;

use std::sync::Arc;
use std::time::Instant;

use super::chain::{Link, LinkState, Snapshot, phases};
use super::service::Blame;
use super::state::{Changes, Running, State};
use super::{host, observer, permits};
use crate::config::OnFailure;
use crate::plugins::generation::phase_name;
use crate::plugins::instance::{Decision, Prepared};

/// What the chain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call is answered with what the state holds.
    Answer,
    /// The call is answered with ERROR; the reason is logged.
    Fail,
}

/// Where the code runs; it decides what a call's length says of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On an event loop: the watchdog looks after it.
    Loop,
    /// On a thread: each plugin is timed, to see whether it may move to the loop.
    Thread,
}

/// Runs the chain.
#[inline]
pub fn run(snapshot: &Snapshot, state: &mut State<'_>, blame: &Blame, place: Place) -> Verdict {
    state.observer = observer::observer_of(state);
    for &phase in &phases(state.message.kind()) {
        if snapshot.plain && !snapshot.has(phase) {
            continue;
        }
        let begun = match runloop::before(phase, snapshot, state) {
            Ok(begun) => begun,
            Err(verdict) => return verdict,
        };
        let verdict = run_phase(phase, snapshot, state, blame, place);
        runloop::after(begun, state);
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
    Verdict::Answer
}

/// Runs one phase of all plugins. `Some`: it ended the chain.
#[inline]
fn run_phase(
    phase: u32,
    snapshot: &Snapshot,
    state: &mut State<'_>,
    blame: &Blame,
    place: Place,
) -> Option<Verdict> {
    for (index, link) in snapshot.links.iter().enumerate() {
        let link_state = match &link.scoped {
            None => &link.state,
            Some(scoped) => {
                let whom = state.whom();
                if whom.is_none() {
                    scoped.unresolved(phase, &link.name, state.route_key);
                }
                link.resolve(whom)
            }
        };
        let prepared = match link_state {
            LinkState::Ready(prepared) if prepared.generation().has(phase) => prepared,
            LinkState::Failing(reason) if link.scoped.is_some() => {
                log_failing(link, reason, state);
                if link.on_failure == OnFailure::Skip {
                    continue;
                }
                state.running.link = index;
                return Some(Verdict::Fail);
            }
            _ => continue,
        };
        state.running = Running {
            link: index,
            generation: prepared.generation().number,
            phase,
        };
        let decision = step(link, prepared, state, blame, place);
        if state.lists.flaw().is_some() {
            return Some(Verdict::Fail); // the plugin has not seen all that the client sent
        }
        match decision {
            Decision::Continue => {}
            // Without an answer the request would pass.
            Decision::Respond if state.answer.is_some() => return Some(Verdict::Answer),
            Decision::Respond | Decision::Failed { .. } => return Some(Verdict::Fail),
        }
    }
    None
}

/// A plugin that cannot run fails the call before any other plugin has run.
fn failing(snapshot: &Snapshot, state: &mut State<'_>) -> Option<Verdict> {
    for (index, link) in snapshot.links.iter().enumerate() {
        if let LinkState::Failing(reason) = &link.state {
            log_failing(link, reason, state);
            if link.on_failure == OnFailure::Error {
                state.running.link = index;
                return Some(Verdict::Fail);
            }
        }
    }
    None
}

fn log_failing(link: &Link, reason: &Arc<str>, state: &State<'_>) {
    let (id, route_key, skipped) = (
        state.message.id(),
        state.route_key,
        link.on_failure == OnFailure::Skip,
    );
    if let Some(before) = super::failures().admit(&format!("{route_key} {reason}")) {
        tracing::error!(
            plugin = link.name,
            id,
            route_key,
            skipped,
            before,
            "{reason}"
        );
    }
}

#[inline]
fn step(
    link: &Link,
    prepared: &Prepared,
    state: &mut State<'_>,
    blame: &Blame,
    place: Place,
) -> Decision {
    if link.on_failure == OnFailure::Skip {
        return step_or_skip(link, prepared, state, blame, place);
    }
    let decision = enter(prepared, state, blame, place);
    if let Decision::Failed { panicked } = decision {
        failed(link, prepared, state, panicked);
    }
    decision
}

/// A plugin that fails has not run.
#[inline(never)]
fn step_or_skip(
    link: &Link,
    prepared: &Prepared,
    state: &mut State<'_>,
    blame: &Blame,
    place: Place,
) -> Decision {
    let (changes, answer) = (state.changes.clone(), state.answer.clone());
    let decision = enter(prepared, state, blame, place);
    let Decision::Failed { panicked } = decision else {
        return decision;
    };
    failed(link, prepared, state, panicked);
    if state.broken.is_some() {
        // A connection that broke in a question cannot be answered, whatever may be skipped.
        return decision;
    }
    let _: Changes<'_> = std::mem::replace(&mut state.changes, changes);
    state.changes.headers.forget_cursor();
    state.changes.args.forget_cursor();
    state.answer = answer;
    Decision::Continue
}

#[cold]
fn failed(link: &Link, prepared: &Prepared, state: &mut State<'_>, panicked: bool) {
    let error = state.error.take().unwrap_or(b"it did not say why");
    let error = String::from_utf8_lossy(error);
    prepared.generation().tally.failed(panicked, &error);
    log_failure(link, state, panicked, &error);
}

#[inline]
fn enter(prepared: &Prepared, state: &mut State<'_>, blame: &Blame, place: Place) -> Decision {
    let pace = &prepared.generation().pace;
    let started = (place == Place::Thread).then(Instant::now);
    if started.is_some() {
        permits::keep_only(pace.threads());
    }
    state.asked = false;
    let decision = lend(prepared, state, blame);
    prepared.generation().tally.ran();
    match started {
        Some(started) => pace.ran_on_thread(started.elapsed(), state.asked),
        None if state.asked => pace.asked_on_loop(),
        None => {}
    }
    decision
}

/// Runs the phase that `state.running` names.
#[inline(always)]
pub(super) fn lend(prepared: &Prepared, state: &mut State<'_>, blame: &Blame) -> Decision {
    match state.observer {
        None => lend_unseen(prepared, state, blame),
        Some(observer) => {
            let watched = observer::enter(observer, state);
            let decision = lend_unseen(prepared, state, blame);
            watched.leave(state, prepared.generation(), decision);
            decision
        }
    }
}

#[inline(always)]
fn lend_unseen(prepared: &Prepared, state: &mut State<'_>, blame: &Blame) -> Decision {
    let phase = state.running.phase;
    blame.enter(state.running.generation, phase as u8);
    let decision = host::lend(state, |call| prepared.run(phase, call));
    blame.leave();
    decision
}

/// Says why a phase failed.
pub(super) fn log_failure(link: &Link, state: &State<'_>, panicked: bool, error: &str) {
    let (id, route_key) = (state.message.id(), state.route_key);
    let Running {
        generation, phase, ..
    } = state.running;
    let skipped = link.on_failure == OnFailure::Skip;
    let cause = format!("{route_key} {} {phase} {error}", link.name);
    if let Some(before) = super::failures().admit(&cause) {
        tracing::error!(
            plugin = link.name,
            generation,
            phase = phase_name(phase),
            id,
            route_key,
            panicked,
            skipped,
            before,
            "{error}"
        );
    }
}

#[cfg(test)]
mod tests;
