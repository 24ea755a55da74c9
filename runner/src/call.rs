//! `plugin-runner call`: one request or response through a chain of plugins, without a gateway and without a socket, and
//! what each plugin did with it. The plugins run in a process that is thrown away; see `supervise/rehearsal`.

mod belongs;
mod bound;
mod report;
mod sample;

pub use belongs::Belongs;
pub use bound::{Bound, bound};
pub use report::{Outcome, Report, nanoseconds, text};
pub use sample::{BadSample, Sample};

use crate::config::{Binding, Config};
use crate::plugins::instance::Purpose;
use crate::supervise::rehearsal::{self, Copy, Plan, Rehearsed};
use crate::telemetry::Lines;

/// Plugins and what to do with them.
#[derive(Debug)]
pub struct Run<'a> {
    /// As for `start`.
    pub config: &'a Config,
    /// What the plugins are told that they are started for.
    pub purpose: Purpose,
    /// The libraries.
    pub libraries: Vec<Copy>,
    /// Plugins with their values, in the order of the chain.
    pub chain: &'a [(String, String)],
    /// Bindings, as `start` would give them to its worker.
    pub bindings: Vec<Binding>,
    /// The call; without one the chain is only configured.
    pub sample: Option<&'a Sample>,
    /// How often it is run again, to time it.
    pub again: u32,
}

/// Runs it. On the main thread.
///
/// # Errors
/// The protocol cannot express the call.
pub fn run(run: Run<'_>, lines: &Lines) -> Result<Rehearsed, BadSample> {
    let is_response = run.sample.is_some_and(Sample::is_response);
    let key = run
        .sample
        .map_or_else(|| sample::BEFORE.to_owned(), Sample::route_key);
    let call = run
        .sample
        .map(|sample| Ok((is_response, sample.payload(rehearsal::TOKEN)?)));
    let plan = Plan {
        config: run.config,
        purpose: run.purpose,
        libraries: run.libraries,
        bindings: run.bindings,
        conf: Some(crate::dev::frames::prepare_conf(&key, run.chain)),
        answers: run.sample.map(Sample::answers).unwrap_or_default(),
        call: call.transpose()?,
        again: run.again,
    };
    Ok(rehearsal::rehearse(&plan, lines))
}
