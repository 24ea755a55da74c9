//! The run loop's own hooks: what the runner does before and after all plugins' part of a phase, as Kong's
//! `runloop.access.before` and `runloop.access.after`. They belong to the runner; authors see the phases alone.
//!
//! | hook | what the runner does there |
//! |---|---|
//! | `rewrite.before`, `header_filter.before` | A plugin that cannot run fails the call before any other plugin has run. |
//! | every `before` | Reads the clock, if a plugin of the chain has `log` and may ask. |
//! | every `after` | Notes how long the phase took. |
//! | `log.before` | Says in the blame page for whose call this thread works. |
//!
//! What belongs to the whole call and not to a phase stands elsewhere: the snapshot of the chain and its declared
//! questions, bodies among them, before the first phase (`request/call`); deadlines around all of it (`rpc/run`); the
//! reply with its full header set after the last (`request/reply`); the call's own line after `log` (`request/call_line`).

use std::time::Instant;

use plugin_api::abi::numbers::phase as numbers;

use super::{Verdict, failing};
use crate::plugins::generation::phase_name;
use crate::request::chain::Snapshot;
use crate::request::service::Blame;
use crate::request::state::State;

/// A phase that has begun.
pub(in crate::request) struct Begun {
    phase: u32,
    /// Nobody else looks at the clock's reading.
    at: Option<Instant>,
}

/// Before the first plugin's part of a phase.
///
/// # Errors
/// How the call ends, as no plugin may run.
#[inline]
pub(super) fn before(
    phase: u32,
    snapshot: &Snapshot,
    state: &mut State<'_>,
) -> Result<Begun, Verdict> {
    tracing::trace!(target: "runloop", "{}.before", phase_name(phase));
    let is_first = matches!(phase, numbers::REWRITE | numbers::HEADER_FILTER);
    if is_first
        && !snapshot.plain
        && let Some(verdict) = failing(snapshot, state)
    {
        return Err(verdict);
    }
    let at = snapshot.has(numbers::LOG).then(Instant::now);
    Ok(Begun { phase, at })
}

/// Before the first plugin's `log`: the call is over.
pub(in crate::request) fn before_log(snapshot: &Snapshot, blame: &Blame) -> Begun {
    tracing::trace!(target: "runloop", "log.before");
    blame.on_token(snapshot.token);
    Begun {
        phase: numbers::LOG,
        at: None,
    }
}

/// After the last plugin's part of a phase, also if one of them has ended the call.
#[inline]
pub(in crate::request) fn after(begun: Begun, state: &mut State<'_>) {
    if let Some(at) = begun.at {
        state.times[begun.phase as usize] = at.elapsed();
    }
    tracing::trace!(target: "runloop", "{}.after", phase_name(begun.phase));
}
