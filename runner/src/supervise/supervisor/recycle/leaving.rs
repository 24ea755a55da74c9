//! The worker that has a successor: gives its connections away, finishes its calls, and goes.

use super::*;

/// When a worker that could not give its connections away tries again, if no other worker begins to serve before.
const AGAIN: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Lets the leaving worker give its connections to the one that serves.
    pub(in crate::supervise::supervisor) fn hand_over(&mut self) {
        let (Some(worker), Some(leaving)) = (&self.worker, &mut self.recycles.leaving) else {
            return;
        };
        if !leaving.stranded || !worker.serving || self.stopping.is_some() {
            return;
        }
        let within = self.config.calls.deadline + SLOW_READERS;
        let number = leaving.worker.number;
        leaving.tries += 1;
        match pair() {
            Ok((gives, takes)) if leaving.tries <= TRIES => {
                leaving.stranded = false;
                worker.tell_with(ToWorker::Adopt, Vec::new(), vec![takes]);
                let order = ToWorker::HandOver { within };
                leaving.worker.tell_with(order, Vec::new(), vec![gives]);
            }
            _ => leaving.worker.tell(ToWorker::Drain { within }),
        }
        self.later(within + SILENCE, Timer::LeavingIsLate(number));
    }

    /// From the worker that finishes what it has.
    pub(in crate::supervise::supervisor) fn on_leaving(&mut self, event: WorkerEvent) -> Flow {
        let Some(leaving) = &mut self.recycles.leaving else {
            return Flow::Continue(());
        };
        let number = leaving.worker.number;
        match event {
            WorkerEvent::Says(FromWorker::HandedOver(handed), _) if handed.broken => {
                leaving.stranded = true;
                // Most likely the other one has died, and we have not been told: its successor is to be asked, not it.
                self.later(AGAIN, Timer::HandOverAgain(number));
            }
            WorkerEvent::Says(FromWorker::HandedOver(handed), _) => {
                leaving.handed = Some(handed);
                self.put_down(number);
            }
            WorkerEvent::Says(FromWorker::Drained, _) => {
                leaving.handed.get_or_insert_default();
                self.put_down(number);
            }
            WorkerEvent::Says(..) => {}
            WorkerEvent::Disconnected => self.put_down(number),
            WorkerEvent::Ended => return self.leaving_ended(),
        }
        Flow::Continue(())
    }

    pub(in crate::supervise::supervisor) fn hand_over_again(&mut self, number: u64) {
        let leaving = self.recycles.leaving.as_ref();
        if leaving.is_some_and(|leaving| leaving.worker.number == number) {
            self.hand_over();
        }
    }

    pub(in crate::supervise::supervisor) fn leaving_is_late(&mut self, number: u64) {
        let leaving = self.recycles.leaving.as_ref();
        if leaving.is_some_and(|leaving| leaving.worker.number == number) {
            tracing::warn!("worker {number} does not come to its end and is killed");
            self.put_down(number);
        }
    }

    fn leaving_ended(&mut self) -> Flow {
        let Some(leaving) = self.recycles.leaving.take() else {
            return Flow::Continue(());
        };
        let Leaving {
            worker,
            reason,
            since,
            changed,
            unneeded,
            handed,
            mut lines,
            ..
        } = leaving;
        let number = worker.number;
        let (cause, ending) = worker.bury();
        self.forget_worker(number);
        let outcome = match handed {
            Some(handed) => {
                if let Reason::StuckThreads(_) = reason {
                    self.log_culprit(&ending);
                }
                let line = farewell(number, handed);
                match handed.cut {
                    0 => tracing::info!(
                        gone_after_ms = changed.elapsed().as_millis() as u64,
                        "{line}"
                    ),
                    _ => tracing::warn!("{line}"),
                }
                lines.push(line);
                Ok(())
            }
            None => {
                let line = format!("worker {number} ended before it had finished its calls");
                tracing::error!(cause, "{line}");
                self.log_culprit(&ending);
                self.count_crash_of_leaving(&ending);
                lines.push(line.clone());
                Err(line)
            }
        };
        unneeded.iter().for_each(|library| self.discard(library));
        let answer = match outcome {
            Ok(()) => Answer::Done { lines },
            Err(_) => Answer::Failed { lines },
        };
        self.note_recycle(reason, since, outcome);
        self.answer_recycles(&answer);
        self.has_left(number)
    }

    /// The build is counted, not held: the worker that serves has it, too, and is not taken away from anybody for it.
    fn count_crash_of_leaving(&mut self, ending: &Ending) {
        let culprit = ending.culprit.map(|culprit| culprit.running.generation);
        let guilty = culprit.and_then(|generation| self.library_of(generation));
        if let Some(sha256) = guilty.map(|library| library.sha256) {
            let _ = self.libraries.quarantine.crashed(sha256, Instant::now());
        }
    }

    /// The old worker takes its time: whoever asked is told so.
    pub(in crate::supervise::supervisor) fn recycle_is_long(&mut self, number: u64) {
        let leaving = self.recycles.leaving.as_ref();
        let Some(leaving) = leaving.filter(|leaving| leaving.worker.number == number) else {
            return;
        };
        let mut lines = leaving.lines.clone();
        lines.push(format!("worker {number} still finishes calls"));
        self.answer_recycles(&Answer::Done { lines });
    }
}

fn farewell(number: u64, handed: HandedOver) -> String {
    let HandedOver { passed, cut, .. } = handed;
    let plural = if passed == 1 { "" } else { "s" };
    let cut = match cut {
        0 => String::new(),
        cut => format!("; {cut} were closed after an error, as their calls did not end"),
    };
    format!("worker {number} has handed over {passed} connection{plural} and is gone{cut}")
}
