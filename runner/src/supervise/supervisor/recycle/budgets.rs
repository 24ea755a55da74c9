//! Recycles the worker when it is beyond a budget, without being asked.

use super::*;

impl Supervisor {
    /// Looks at the budgets every now and then.
    pub(in crate::supervise::supervisor) fn look_at_budgets(&mut self) {
        self.later(LOOK, Timer::Look);
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.serving) else {
            return;
        };
        worker.tell(ToWorker::Pulse);
        let wants_memory = self.config.worker.recycle_memory().is_some();
        let serving = self.libraries.reload.files();
        let serving = serving.filter(|(_, state)| state.serving.is_some()).count();
        let load = Load {
            generations: worker.loaded.saturating_sub(serving),
            memory: wants_memory.then(|| worker.memory()).flatten(),
            stuck_threads: self.recycles.stuck_threads,
            hung_starts: self.recycles.hung_starts,
        };
        let reason = exceeded(load, &self.config.worker);
        let Some(reason) = reason.filter(|_| self.recycles.is_idle() && self.stopping.is_none())
        else {
            return;
        };
        let now = Instant::now();
        // A library hangs once, and then not before its file changes: this makes no loop.
        let once = matches!(reason, Reason::HungStarts(_));
        if !once && !self.recycles.pace.admit(now) {
            let wait = self.recycles.pace.wait(now);
            return tracing::debug!(?wait, "a recycle is due and was not long ago: {reason}");
        }
        if let Err(cause) = self.recycle(reason) {
            tracing::error!(cause, "the worker cannot be recycled although {reason}");
        }
    }

    /// What the worker that serves says of its threads.
    pub(in crate::supervise::supervisor) fn pulse(&mut self, stuck_threads: usize) {
        self.recycles.stuck_threads = stuck_threads;
    }
}
