//! What remains reachable of a call while its own thread is busy: says which plugin held it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::Snapshot;
use super::failures;
use super::log_phase::ToLog;
use super::service::{Blame, Watched};
use crate::plugins::generation::{Generation, phase_name};

/// What the watchdog sees of a call.
#[derive(Clone)]
pub struct WatchedCall {
    pub(super) snapshot: Arc<Snapshot>,
    /// `Some` if a plugin of the chain has a `log` phase.
    pub(super) to_log: Option<Arc<ToLog>>,
    /// The one that runs, where the snapshot may be a later one than the call's.
    pub(super) running: Option<Arc<Generation>>,
}

impl WatchedCall {
    fn blamed(&self, blame: &Blame) -> Option<(Arc<Generation>, u8)> {
        let (number, phase) = blame.now()?;
        let mut generations = self.running.iter().chain(self.snapshot.generations());
        let generation = generations.find(|generation| generation.number == number)?;
        Some((Arc::clone(generation), phase))
    }
}

impl Watched for WatchedCall {
    fn slow(&self, blame: &Blame, elapsed: Duration) {
        let Some((generation, phase)) = self.blamed(blame) else {
            return;
        };
        let for_good = generation.pace.held_up_a_loop(Instant::now());
        tracing::debug!(
            plugin = generation.name(),
            generation = generation.number,
            phase = phase_name(phase.into()),
            route_key = self.snapshot.route_key,
            ?elapsed,
            for_good,
            "held up an event loop: its calls run on threads now"
        );
    }

    fn expired(&self, blame: Option<&Blame>, elapsed: Duration) {
        let running = blame.and_then(|blame| self.blamed(blame));
        if let Some(to_log) = &self.to_log {
            to_log.expired(running.as_ref().map(|(generation, _)| generation.number));
        }
        let route_key = &self.snapshot.route_key;
        let Some((generation, phase)) = running else {
            if let Some(before) = failures().admit(&format!("waited {route_key}")) {
                tracing::error!(
                    route_key,
                    ?elapsed,
                    before,
                    "a call passed its deadline before a plugin could run: answered with an error"
                );
            }
            return;
        };
        let name = phase_name(phase.into());
        let error = format!("a call passed its deadline in {name} on {route_key}");
        generation.tally.failed(false, &error);
        let cause = format!("late {route_key} {} {phase}", generation.number);
        let Some(before) = failures().admit(&cause) else {
            return;
        };
        tracing::error!(
            plugin = generation.name(),
            generation = generation.number,
            phase = phase_name(phase.into()),
            route_key,
            ?elapsed,
            before,
            "a call passed its deadline: answered with an error, and the plugin's own answer will be dropped"
        );
    }
}
