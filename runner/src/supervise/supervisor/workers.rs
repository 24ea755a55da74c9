//! What comes from workers: whose it is, and what it means when it is from the one that serves.

use super::{Flow, Supervisor, WorkerEvent};
use crate::supervise::control::message::FromWorker;
use crate::supervise::spawn::Worker;

impl Supervisor {
    pub(super) fn dispatch(&mut self, number: u64, event: WorkerEvent) -> Flow {
        let is = |worker: Option<&Worker>| worker.is_some_and(|worker| worker.number == number);
        match event {
            WorkerEvent::Says(FromWorker::Prepare { sequence }, payload) => {
                self.prepare(number, sequence, payload);
            }
            WorkerEvent::Says(FromWorker::Known { sequence }, _) => self.known(number, sequence),
            event if is(self.worker.as_ref()) => return self.on_worker(event),
            event if is(self.recycles.next()) => self.on_next(event),
            event if is(self.recycles.leaving()) => return self.on_leaving(event),
            // What an earlier worker said does not count any more.
            _ => {}
        }
        Flow::Continue(())
    }

    fn on_worker(&mut self, event: WorkerEvent) -> Flow {
        match event {
            WorkerEvent::Says(message, _) => return self.on_message(message),
            WorkerEvent::Ended => return self.worker_ended(),
            WorkerEvent::Disconnected => match &self.worker {
                // Its end follows.
                Some(worker) if worker.is_process() => self.put_down(worker.number),
                _ => return self.worker_ended(),
            },
        }
        Flow::Continue(())
    }

    fn on_message(&mut self, message: FromWorker) -> Flow {
        match message {
            FromWorker::Ready => {
                if let Some(worker) = &mut self.worker {
                    worker.ready = true;
                }
            }
            FromWorker::Loaded {
                generation,
                plugins,
            } => {
                if let Some(worker) = &mut self.worker {
                    worker.loaded += 1;
                }
                self.loaded(generation, plugins);
            }
            FromWorker::Refused {
                generation,
                refusal,
            } => self.refused(generation, &refusal),
            FromWorker::Forget { token } => self.tokens.forget(token),
            FromWorker::Stays { conf, on } => self.stays(conf, on),
            FromWorker::Report { sequence, report } => self.answer_status(sequence, Some(report)),
            FromWorker::Pulse { stuck_threads } => self.pulse(stuck_threads),
            FromWorker::Serving => self.hand_over(),
            FromWorker::Drained => return self.worker_has_left(),
            FromWorker::HandedOver(handed) => return self.handed_to_successor(handed),
            // Whoever it is from.
            FromWorker::Prepare { .. } | FromWorker::Known { .. } => {}
        }
        Flow::Continue(())
    }
}
