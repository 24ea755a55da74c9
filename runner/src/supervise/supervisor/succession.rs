//! The path of our socket: whether it is still ours, and who has it when we leave. After a reload of the gateway it is
//! another runner's, which gets our connections.

use std::thread;
use std::time::{Duration, Instant};

use super::{Event, Flow, Supervisor, Timer};
use crate::supervise::budget::Reason;
use crate::supervise::control::message::ToWorker;
use crate::supervise::socket::{Socket, Standing};
use crate::supervise::successor::{self, Successor, SuccessorError};
use crate::supervise::workshop::HandedOver;

/// What the last log lines need after the time to stop.
const LAST_LINES: Duration = Duration::from_millis(80);

impl Supervisor {
    /// Lets calls in flight and the backlog finish, and gives connections to whoever has our path now. Gateway: it asks us
    /// to leave and is gone itself a moment later, so being asked again changes nothing.
    pub(super) fn stop(&mut self, reason: &str) -> Flow {
        if self.stopping.is_some() {
            return Flow::Continue(());
        }
        self.stopping = Some(Instant::now());
        tracing::info!("stopping: {reason}");
        let replaced = self.socket.standing() == Standing::Replaced;
        // From here on a new connection reaches our successor, or nobody; what waits in the backlog is still served.
        self.socket.unlink();
        // One that does not serve yet may have connections that wait for it.
        let with_calls = self.workers().filter(|worker| worker.serving || replaced);
        self.draining = with_calls.map(|worker| worker.number).collect();
        if self.draining.is_empty() {
            return Flow::Break(());
        }
        let time = self.config.calls.stop_deadline;
        self.later(time + LAST_LINES, Timer::StopNow);
        // Calls and connections are served as before while it is asked.
        let patience = time * 2 / 3;
        self.asking_successor = replaced && self.ask_successor(patience);
        match self.asking_successor {
            true => self.later(patience, Timer::SuccessorIsLate),
            false => self.drain(),
        }
        Flow::Continue(())
    }

    /// The runner at our path had its time.
    pub(super) fn successor_is_late(&mut self) {
        if std::mem::take(&mut self.asking_successor) {
            self.drain();
        }
    }

    /// Asks the runner at our path, on a thread of its own; whether it could be asked.
    fn ask_successor(&self, patience: Duration) -> bool {
        let (path, config) = (self.socket.path().to_owned(), self.config.clone());
        let events = self.events.clone();
        let asking = move || {
            let answer = successor::ask(&path, &config, patience);
            drop(events.send(Event::Successor(answer)));
        };
        let thread = thread::Builder::new().name("successor".to_owned());
        thread.spawn(asking).is_ok()
    }

    /// What the runner at our path says.
    pub(super) fn successor_answered(&mut self, answer: Result<Successor, SuccessorError>) {
        if !std::mem::take(&mut self.asking_successor) {
            return; // the calls are being finished already
        }
        let within = self.time_to_drain();
        match (answer, &self.worker) {
            (Ok(Successor { pid, takes }), Some(worker)) => {
                tracing::info!("connections go to the runner with process id {pid}");
                worker.tell_with(ToWorker::HandOver { within }, Vec::new(), vec![takes]);
                let leaving = self.recycles.leaving();
                leaving.inspect(|leaving| leaving.tell(ToWorker::Drain { within }));
            }
            (Ok(_), _) => self.drain(),
            (Err(cause), _) => {
                tracing::debug!(cause = %cause, "nobody takes our connections");
                self.drain();
            }
        }
    }

    /// The worker has given its connections to the runner at our path, or could not.
    pub(super) fn handed_to_successor(&mut self, handed: HandedOver) -> Flow {
        if handed.broken {
            self.drain();
            return Flow::Continue(());
        }
        tracing::info!(
            cut = handed.cut,
            "handed over {} connections",
            handed.passed
        );
        self.worker_has_left()
    }

    fn drain(&self) {
        let within = self.time_to_drain();
        self.tell_all(&ToWorker::Drain { within });
    }

    fn time_to_drain(&self) -> Duration {
        let since = self.stopping.map(|since| since.elapsed());
        let time = self.config.calls.stop_deadline;
        time.saturating_sub(since.unwrap_or_default())
    }

    /// The worker has finished its calls.
    pub(super) fn worker_has_left(&mut self) -> Flow {
        match &self.worker {
            Some(worker) => self.has_left(worker.number),
            None => Flow::Continue(()),
        }
    }

    /// Worker `number` is gone or has finished its calls; when we stop, the last one is waited for.
    pub(super) fn has_left(&mut self, number: u64) -> Flow {
        self.draining.remove(&number);
        match self.stopping.is_some() && self.draining.is_empty() {
            true => Flow::Break(()),
            false => Flow::Continue(()),
        }
    }

    /// Sees to it that connects reach us, unless somebody else is there.
    pub(super) fn look_at_socket(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let abandoned = match self.socket.standing() {
            Standing::Ours => {
                self.usurper = None;
                false
            }
            Standing::Gone => true,
            Standing::Replaced => self.is_abandoned(),
        };
        if abandoned {
            self.listen_again();
        }
        let worker = self.worker.as_ref().filter(|worker| worker.serving);
        let behind = worker.is_some_and(|worker| worker.socket != self.socket.id());
        if behind && self.recycles.may_take_socket() {
            // Why not is logged; it is tried again.
            if let Err(cause) = self.recycle(Reason::Socket) {
                tracing::warn!(cause, "no worker accepts on the new socket yet");
            }
        }
    }

    /// Whether nobody listens at our path, although there is something.
    fn is_abandoned(&mut self) -> bool {
        let path = self.socket.path();
        let found = match successor::listener(path) {
            Err(SuccessorError::Nobody(_)) => return true,
            Ok(pid) => format!("process {pid}"),
            Err(cause) => cause.to_string(),
        };
        if self.usurper.as_ref() != Some(&found) {
            let hint = "a gateway that reloads does this, and ends us in a moment; otherwise end one of the two runners";
            let path = path.display();
            tracing::warn!(hint, "{path} is no more ours: {found} has taken it over");
            self.usurper = Some(found);
        }
        false
    }

    fn listen_again(&mut self) {
        match Socket::listen(&self.config.socket) {
            Ok(socket) => {
                self.socket = socket;
                self.usurper = None;
                let path = self.socket.path().display();
                tracing::warn!("somebody removed the socket: listening on {path} again");
            }
            Err(cause) => {
                let fault = cause.to_string();
                if self.usurper.as_ref() != Some(&fault) {
                    tracing::error!("the socket is gone: {fault}");
                    self.usurper = Some(fault);
                }
            }
        }
    }
}
