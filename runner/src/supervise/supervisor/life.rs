//! A worker's life: started, made to serve, replaced when it dies, drained at the end.

use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

use super::{Flow, Libraries, Supervisor, Timer};
use crate::plugins::blame::{Culprit, Ending, activity};
use crate::supervise::control::message::{Start, ToWorker};
use crate::supervise::reload::Suspect;
use crate::supervise::spawn::{Host, Outfit, Worker};

/// How long a new worker waits for the last good copy of what was just quarantined: other plugins wait with it.
const RECALL: Duration = Duration::from_millis(250);

/// How long we wait for a disk at the end.
const REMOVAL: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Starts a process, and tells it nothing yet.
    pub(super) fn new_worker(&mut self) -> anyhow::Result<Worker> {
        self.last_worker += 1;
        let number = self.last_worker;
        let outfit = Outfit {
            start: self.outset(),
            listener: self.socket.as_fd().try_clone_to_owned()?,
            socket: self.socket.id(),
            lines: self.telemetry.lines(),
            events: self.events.clone(),
        };
        let worker = Worker::start(number, &self.host, outfit)?;
        tracing::debug!(pid = worker.pid(), "worker {number} started");
        Ok(worker)
    }

    pub(super) fn start_worker(&mut self) -> anyhow::Result<()> {
        let worker = self.new_worker()?;
        let number = worker.number;
        self.tell_bindings_to(&worker);
        let older = self.load_older(&worker);
        self.libraries.older.loads(older);
        self.worker = Some(worker);
        let steps = self.libraries.reload.worker_started();
        self.carry_out(steps);
        self.later(
            self.config.plugins.load_deadline,
            Timer::LoadsAreOver(number),
        );
        if self.libraries.reload.is_recalling() {
            self.later(RECALL + Duration::from_millis(1), Timer::RecallsAreOver);
        }
        Ok(())
    }

    /// What a new process of ours is told first.
    pub(super) fn outset(&self) -> Start {
        Start {
            config: self.config.clone(),
            identity: self.identity,
            supervisor: std::process::id(),
            style: self.telemetry.style(),
        }
    }

    /// After a worker died: a failure is not the end, there may be room for a process in a moment.
    pub(super) fn replace_worker(&mut self) {
        if self.stopping.is_some() || self.worker.is_some() {
            return;
        }
        if let Err(cause) = self.start_worker() {
            let wait = self.backoff.after(Duration::ZERO);
            tracing::error!(
                cause = format!("{cause:#}"),
                "no worker can be started; trying again"
            );
            self.later(wait.max(Duration::from_millis(100)), Timer::StartWorker);
        }
    }

    /// Connections wait in the backlog until this: every library had its chance first. After a crash they wait for no
    /// more than what served before.
    pub(super) fn serve_if_settled(&mut self) {
        let Libraries { reload, older, .. } = &self.libraries;
        let lived = self.worker.as_ref().map(Worker::lived);
        let recalled = !reload.is_recalling() || lived > Some(RECALL);
        let as_before = self.announced && reload.is_as_before() && recalled;
        if (reload.is_settled() || as_before) && older.is_loaded() {
            self.serve();
        }
    }

    pub(super) fn loads_are_over(&mut self) {
        let waiting = self.worker.as_ref().is_some_and(|worker| !worker.serving);
        if waiting && !self.libraries.reload.is_settled() {
            tracing::warn!(
                hint = "plugins.load_deadline is how long calls wait for it",
                "serving starts while libraries are still being loaded"
            );
        }
        self.serve();
    }

    fn serve(&mut self) {
        let Some(worker) = &mut self.worker else {
            return;
        };
        if !worker.ready || worker.serving || self.stopping.is_some() {
            return;
        }
        worker.serving = true;
        for (token, payload) in self.tokens.live() {
            let conf = ToWorker::Conf {
                token,
                sequence: None,
            };
            worker.tell_with(conf, payload.to_vec(), Vec::new());
        }
        let served = self.libraries.served.clone();
        // Connections may wait for calls, but calls of other confs not for a slow one.
        let settle = Duration::ZERO;
        worker.tell(ToWorker::Serve { served, settle });
        self.libraries.note_served();
        if !self.config.plugins.hot_reload {
            self.libraries
                .looked_at_until
                .get_or_insert_with(Instant::now);
        }
        let offers = self.libraries.offers.values();
        let plugins: usize = offers.map(|offer| offer.plugins.len()).sum();
        let ready = if self.announced {
            "ready again"
        } else {
            "ready"
        };
        self.announced = true;
        match plugins {
            1 => tracing::info!("{ready}: 1 plugin"),
            _ => tracing::info!("{ready}: {plugins} plugins"),
        }
    }

    pub(super) fn worker_ended(&mut self) -> Flow {
        let Some(worker) = self.worker.take() else {
            return Flow::Continue(());
        };
        self.answer_all_statuses();
        let lived = worker.lived();
        let number = worker.number;
        let (cause, ending) = worker.bury();
        self.forget_worker(number);
        // In one process there is nobody to start another worker; the reason comes out at its own end.
        if matches!(self.host, Host::Here(_)) {
            return Flow::Break(());
        }
        if self.stopping.is_some() {
            return self.has_left(number);
        }
        self.recycles.hung_starts = 0;
        self.abandon("the worker before it ended");
        let wait = self.backoff.after(lived);
        tracing::error!(
            cause,
            wait_ms = (!wait.is_zero()).then_some(wait.as_millis() as u64),
            "worker {number} ended; a new one takes its place"
        );
        self.log_culprit(&ending);
        let culprit = ending.culprit.map(|culprit| culprit.running.generation);
        let guilty = culprit.and_then(|generation| self.library_of(generation).cloned());
        let suspect = self.older_worker_ended(suspect(&ending));
        let mut steps = self.libraries.reload.worker_ended(suspect);
        if let Some(guilty) = guilty {
            steps.extend(self.count_crash(&guilty));
        }
        self.carry_out(steps);
        self.hold_all_quarantined();
        self.discard_retired();
        if wait.is_zero() {
            self.replace_worker();
        } else {
            self.later(wait, Timer::StartWorker);
        }
        Flow::Continue(())
    }

    pub(super) fn end(&mut self) {
        self.socket.unlink();
        if let Some(worker) = self.worker.take() {
            worker.bury();
        }
        self.end_recycle();
        if let Some(prober) = &self.libraries.prober {
            prober.end();
        }
        drop(self.admin.take());
        self.libraries.stager.remover().remove_all(REMOVAL);
        tracing::info!("stopped");
    }
}

/// Whether a load ended the worker. A crash in a call says nothing of a library that is just being loaded, even if it is
/// that library's: it serves already then, and its crashes are counted.
fn suspect(ending: &Ending) -> Suspect {
    const LOADING: [u8; 3] = [activity::OPEN, activity::START, activity::CONFIGURE];
    match ending.culprit {
        Some(Culprit { running, .. }) if LOADING.contains(&running.activity) => {
            Suspect::Load(running.generation)
        }
        Some(_) => Suspect::Nobody,
        None => Suspect::Unknown,
    }
}
