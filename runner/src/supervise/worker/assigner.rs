//! Asks the supervisor for conf tokens. Keeps none.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::request::assign::{AssignToken, Stay};
use crate::supervise::control::Sender;
use crate::supervise::control::message::FromWorker;
use crate::supervise::workshop::Sha256;

/// The supervisor answers in well under a millisecond, unless the machine stands still. Gateway: it waits 3 s.
const PATIENCE: Duration = Duration::from_secs(2);

type Answer = Result<u32, String>;

/// The worker's side of token assignment.
#[derive(Debug)]
pub(super) struct Assigner {
    sender: Sender,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_sequence: u64,
    answers: HashMap<u64, SyncSender<Answer>>,
}

impl Assigner {
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            waiting: Mutex::default(),
        }
    }

    /// Passes an answer on to the thread that waits for it; one that came too late is dropped.
    pub(super) fn answered(&self, sequence: u64, answer: Answer) {
        let waiting = self.waiting().answers.remove(&sequence);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, payload: &[u8]) -> (u64, Answer) {
        let (answer, answered) = sync_channel(1);
        let sequence = {
            let mut waiting = self.waiting();
            waiting.last_sequence += 1;
            let sequence = waiting.last_sequence;
            waiting.answers.insert(sequence, answer);
            sequence
        };
        let message = FromWorker::Prepare { sequence };
        if let Err(cause) = self.sender.send_with(&message, payload, &[]) {
            return (sequence, Err(format!("the supervisor is gone: {cause}")));
        }
        let answer = match answered.recv_timeout(PATIENCE) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                Err("the supervisor did not answer within 2 s".into())
            }
            Err(RecvTimeoutError::Disconnected) => Err("the supervisor is gone".into()),
        };
        (sequence, answer)
    }
}

impl AssignToken for Assigner {
    fn assign(&self, payload: &[u8]) -> Answer {
        let (sequence, answer) = self.ask(payload);
        self.waiting().answers.remove(&sequence);
        answer
    }

    fn forget(&self, token: u32) {
        // If the supervisor is gone, so are we in a moment.
        let _ = self.sender.send(&FromWorker::Forget { token });
    }

    fn stays(&self, conf: &[u8; 32], on: &[Stay]) {
        let (conf, on) = (Sha256(*conf), on.to_vec());
        let _ = self.sender.send(&FromWorker::Stays { conf, on });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;
    use crate::supervise::control::{Received, split};

    #[test]
    fn many_threads_get_each_their_own_answer() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let assigner = Arc::new(Assigner::new(split(ours).unwrap().0));
        let (_, mut supervisor) = split(theirs).unwrap();
        std::thread::scope(|scope| {
            for n in 1..=20u8 {
                let assigner = &assigner;
                scope.spawn(move || {
                    let wanted = if n % 5 == 0 {
                        Err("full".to_owned())
                    } else {
                        Ok(n.into())
                    };
                    assert_eq!(assigner.assign(&[n]), wanted);
                });
            }
            let mut asked: Vec<_> = (0..20)
                .map(|_| {
                    let received: Received<FromWorker> = supervisor.receive().unwrap().unwrap();
                    let FromWorker::Prepare { sequence } = received.message else {
                        panic!("{received:?}");
                    };
                    (sequence, received.tail[0])
                })
                .collect();
            asked.reverse();
            for (sequence, n) in asked {
                let answer = if n % 5 == 0 {
                    Err("full".to_owned())
                } else {
                    Ok(n.into())
                };
                assigner.answered(sequence, answer);
            }
        });
        assert!(assigner.waiting().answers.is_empty());
    }

    #[test]
    fn a_supervisor_that_is_gone_is_an_error_and_not_a_wait() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let assigner = Assigner::new(split(ours).unwrap().0);
        drop(theirs);
        let error = assigner.assign(b"x").unwrap_err();
        assert!(error.contains("the supervisor is gone"), "{error}");
    }
}
