//! Lets a new worker take over from the one that serves, which then gives it every connection between two calls: no call
//! fails, no connection is closed, and the memory of replaced libraries comes back.
//!
//! Until the new worker serves, the old one is the worker, and nothing is lost when the new one fails. From then on the new
//! one is, and the old one only finishes its calls.

mod budgets;
mod leaving;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use super::{Flow, Supervisor, Timer, WorkerEvent};
use crate::plugins::blame::Ending;
use crate::request::assign::Stay;
use crate::rpc::hand_over::pair;
use crate::supervise::admin::Reply;
use crate::supervise::admin::message::{Answer, Recycled};
use crate::supervise::budget::{Load, Pace, Reason, exceeded};
use crate::supervise::control::message::{FromWorker, ToWorker};
use crate::supervise::spawn::{Host, Worker};
use crate::supervise::workshop::{HandedOver, Library, Refusal, Sha256};

/// How often budgets and the socket are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a new worker's confs may take before it accepts without the late ones.
const SETTLE: Duration = Duration::from_secs(2);
/// What a new worker gets to become ready, beside the time for loading libraries.
const READY: Duration = Duration::from_secs(5);
/// What an old worker gets beyond the deadline of calls, for gateways that read slowly: their own read timeout.
const SLOW_READERS: Duration = Duration::from_secs(60);
/// Beyond that an old worker does not say what it does.
const SILENCE: Duration = Duration::from_secs(5);
/// How long somebody who asked waits for the old worker's end.
const ANSWER: Duration = Duration::from_secs(60);
/// How often an old worker tries to give its connections away before it closes them.
const TRIES: u8 = 5;

/// The changes of workers, done and under way.
pub(in crate::supervise) struct Recycles {
    next: Option<Next>,
    leaving: Option<Leaving>,
    pace: Pace,
    /// Of recycles for a new socket.
    socket_pace: Pace,
    /// Threads of the worker that hang, as it said last.
    stuck_threads: usize,
    /// Libraries that hang in their start in it, or came back too late.
    pub(super) hung_starts: usize,
    asked: Vec<Reply>,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) last: Option<Recycled>,
}

/// The worker that is being made ready.
struct Next {
    worker: Worker,
    reason: Reason,
    began: Instant,
    /// Generations that it was told to load and has not answered.
    missing: BTreeSet<u64>,
    /// Copies that were not needed any more when it started: it knows nothing of them.
    unknown: Vec<u64>,
    /// What it says of older builds: it counts from when it serves.
    stays: Vec<(Sha256, Vec<Stay>)>,
    accepts: bool,
}

/// The worker that finishes what it has.
struct Leaving {
    worker: Worker,
    reason: Reason,
    since: Instant,
    /// When it was told to give its connections away.
    changed: Instant,
    /// Copies that nobody needs after it.
    unneeded: Vec<Library>,
    tries: u8,
    /// Its connections are to be taken by a worker that is not there yet.
    stranded: bool,
    /// It has none left.
    handed: Option<HandedOver>,
    /// What to tell those who asked.
    lines: Vec<String>,
}

impl Recycles {
    pub(in crate::supervise) fn new(interval: Duration) -> Self {
        Self {
            next: None,
            leaving: None,
            pace: Pace::new(interval),
            socket_pace: Pace::new(LOOK),
            stuck_threads: 0,
            hung_starts: 0,
            asked: Vec::new(),
            done: 0,
            failed: 0,
            last: None,
        }
    }

    /// The worker that is being made ready.
    pub(super) fn next(&self) -> Option<&Worker> {
        self.next.as_ref().map(|next| &next.worker)
    }

    /// The worker that finishes what it has.
    pub(super) fn leaving(&self) -> Option<&Worker> {
        self.leaving.as_ref().map(|leaving| &leaving.worker)
    }

    /// Whether no new worker is behind the one that serves.
    pub(super) fn is_even(&self) -> bool {
        self.next
            .as_ref()
            .is_none_or(|next| next.missing.is_empty())
    }

    /// Whether a recycle for a new socket may begin; it counts.
    pub(super) fn may_take_socket(&mut self) -> bool {
        self.is_idle() && self.socket_pace.admit(Instant::now())
    }

    fn is_idle(&self) -> bool {
        self.next.is_none() && self.leaving.is_none()
    }
}

impl Supervisor {
    /// Every worker that lives: the one that serves, the one that will, the one that has.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        let recycles = &self.recycles;
        let serving = self.worker.iter();
        serving.chain(recycles.next()).chain(recycles.leaving())
    }

    /// Tells every worker.
    pub(super) fn tell_all(&self, message: &ToWorker) {
        self.workers()
            .for_each(|worker| worker.tell(message.clone()));
    }

    /// Somebody asks for a recycle; the answer comes when it is over.
    pub(super) fn ask_for_recycle(&mut self, reply: Reply) {
        let begun = match &self.recycles.leaving {
            _ if self.recycles.next.is_some() => Ok(()),
            Some(leaving) => Err(format!(
                "worker {} of the recycle before still finishes its calls; try again later",
                leaving.worker.number
            )),
            None => self.recycle(Reason::Asked),
        };
        match begun {
            Ok(()) => self.recycles.asked.push(reply),
            Err(line) => drop(reply.send(Answer::Failed { lines: vec![line] })),
        }
    }

    /// Starts the worker that is to take over.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn recycle(&mut self, reason: Reason) -> Result<(), String> {
        let serving = self.worker.as_ref().is_some_and(|worker| worker.serving);
        match self.host {
            Host::Here(_) => return Err("there is no other worker in one process".to_owned()),
            _ if self.stopping.is_some() => return Err("the runner is stopping".to_owned()),
            _ if !serving => return Err("the worker does not serve yet".to_owned()),
            _ if !self.recycles.is_idle() => return Err("a recycle is under way".to_owned()),
            Host::Processes => {}
        }
        let worker = self.new_worker().map_err(|cause| {
            self.recycles.failed += 1;
            format!("no worker can be started: {cause:#}")
        })?;
        tracing::info!("worker {} is to take over: {reason}", worker.number);
        self.recycles.hung_starts = 0;
        self.tell_bindings_to(&worker);
        let timer = Timer::RecycleIsLate(worker.number);
        self.later(self.config.plugins.load_deadline + READY, timer);
        let retired = self.libraries.retired.iter();
        let older = self.load_older(&worker);
        let mut next = Next {
            unknown: retired.map(|library| library.generation).collect(),
            worker,
            reason,
            began: Instant::now(),
            missing: older.into_iter().collect(),
            stays: Vec::new(),
            accepts: false,
        };
        let serving = self.libraries.reload.files();
        for library in serving.filter_map(|(_, state)| state.serving) {
            next.missing.insert(library.generation);
            self.load_in(&next.worker, library.clone(), ToWorker::Load);
        }
        self.recycles.next = Some(next);
        Ok(())
    }

    /// A build that has just begun to serve is loaded by the next worker, too.
    pub(super) fn load_in_next(&mut self, library: &Library) {
        if let Some(mut next) = self.recycles.next.take() {
            next.missing.insert(library.generation);
            self.load_in(&next.worker, library.clone(), ToWorker::Load);
            self.recycles.next = Some(next);
        }
    }

    /// From the worker that is being made ready.
    pub(super) fn on_next(&mut self, event: WorkerEvent) {
        let Some(next) = &mut self.recycles.next else {
            return;
        };
        match event {
            WorkerEvent::Says(FromWorker::Ready, _) => next.worker.ready = true,
            WorkerEvent::Says(FromWorker::Loaded { generation, .. }, _) => {
                next.missing.remove(&generation);
                next.worker.loaded += 1;
            }
            WorkerEvent::Says(
                FromWorker::Refused {
                    generation,
                    refusal,
                },
                _,
            ) => {
                let Refusal { cause, .. } = refusal;
                let library = self.library_of(generation);
                let file = library.map_or(String::new(), |it| it.file.display().to_string());
                return self.abandon(&format!("it could not load {file}: {cause}"));
            }
            WorkerEvent::Says(FromWorker::Stays { conf, on }, _) => next.stays.push((conf, on)),
            WorkerEvent::Says(FromWorker::Serving, _) => next.accepts = true,
            WorkerEvent::Says(..) => {}
            WorkerEvent::Disconnected => next.worker.kill(),
            WorkerEvent::Ended => return self.abandon("it ended before it served"),
        }
        self.advance();
    }

    /// The next thing to do with the worker that is being made ready.
    fn advance(&mut self) {
        let Some(next) = &mut self.recycles.next else {
            return;
        };
        if !next.worker.ready || !next.missing.is_empty() {
            return;
        }
        if next.accepts {
            return self.change_over();
        }
        if !next.worker.serving {
            next.worker.serving = true;
            for (token, payload) in self.tokens.live() {
                let conf = ToWorker::Conf {
                    token,
                    sequence: None,
                };
                next.worker.tell_with(conf, payload.to_vec(), Vec::new());
            }
            let states = states_for(&next.worker, self.worker.as_ref());
            let served = self.libraries.served.clone();
            let settle = SETTLE;
            let serve = ToWorker::Serve { served, settle };
            next.worker.tell_with(serve, Vec::new(), states);
        }
    }

    pub(super) fn recycle_is_late(&mut self, number: u64) {
        if self
            .recycles
            .next()
            .is_some_and(|next| next.number == number)
        {
            self.abandon("it was not ready in time");
        }
    }

    /// Gives up the worker that is being made ready; the one that serves goes on.
    pub(super) fn abandon(&mut self, why: &str) {
        let Some(next) = self.recycles.next.take() else {
            return;
        };
        let number = next.worker.number;
        let (how, ending) = next.worker.bury();
        self.forget_worker(number);
        self.log_culprit(&ending);
        let hint = "what serves goes on serving";
        tracing::error!(hint, end = how, "worker {number} has not taken over: {why}");
        let outcome = format!("worker {number} has not taken over: {why}");
        self.note_recycle(next.reason, next.began, Err(outcome.clone()));
        self.answer_recycles(&Answer::Failed {
            lines: vec![format!("{outcome}; {hint}")],
        });
    }

    /// The new worker serves and is the worker from now on.
    fn change_over(&mut self) {
        let Some(next) = self.recycles.next.take() else {
            return;
        };
        let took = next.began.elapsed();
        let Some(old) = self.worker.replace(next.worker) else {
            return;
        };
        let new = self.worker.as_ref().map_or(0, |worker| worker.number);
        for (conf, on) in next.stays {
            self.libraries.older.note(conf, on);
        }
        let needed = self.libraries.older_needed();
        let known = |library: &Library| {
            needed.contains(library) || !next.unknown.contains(&library.generation)
        };
        let retired = std::mem::take(&mut self.libraries.retired);
        let (retired, unneeded) = retired.into_iter().partition(known);
        self.libraries.retired = retired;
        let line = format!(
            "worker {new} serves instead of worker {}: {}",
            old.number, next.reason
        );
        tracing::info!(ready_ms = took.as_millis() as u64, "{line}");
        self.recycles.stuck_threads = 0;
        self.later(ANSWER, Timer::RecycleIsLong(old.number));
        self.recycles.leaving = Some(Leaving {
            worker: old,
            reason: next.reason,
            since: next.began,
            changed: Instant::now(),
            unneeded,
            tries: 0,
            stranded: true,
            handed: None,
            lines: vec![format!("{line} (ready after {} ms)", took.as_millis())],
        });
        for library in self.libraries.reload.all_loading() {
            self.load(library);
        }
        self.hand_over();
    }

    fn note_recycle(&mut self, reason: Reason, began: Instant, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.recycles.done += 1,
            Err(_) => self.recycles.failed += 1,
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.recycles.last = Some(Recycled {
            at: since.map_or(0, |since| since.as_secs()),
            reason: reason.to_string(),
            took_ms: began.elapsed().as_millis() as u64,
            fault: outcome.err(),
        });
    }

    fn answer_recycles(&mut self, answer: &Answer) {
        for reply in std::mem::take(&mut self.recycles.asked) {
            let _ = reply.send(answer.clone());
        }
    }

    /// Ends all workers but the one that serves.
    pub(super) fn end_recycle(&mut self) {
        if let Some(next) = self.recycles.next.take() {
            next.worker.bury();
        }
        let line = "the runner stops".to_owned();
        self.answer_recycles(&Answer::Failed { lines: vec![line] });
        if let Some(leaving) = self.recycles.leaving.take() {
            leaving.worker.bury();
        }
    }
}

/// A way for the next worker to ask the one that serves for the states of its confs.
fn states_for(next: &Worker, serving: Option<&Worker>) -> Vec<OwnedFd> {
    let Some(serving) = serving else {
        return Vec::new();
    };
    match UnixStream::pair() {
        Ok((gives, asks)) => {
            serving.tell_with(ToWorker::ExportStates, Vec::new(), vec![gives.into()]);
            vec![asks.into()]
        }
        Err(cause) => {
            let number = next.number;
            tracing::warn!(%cause, "worker {number} starts without the states of confs");
            Vec::new()
        }
    }
}
