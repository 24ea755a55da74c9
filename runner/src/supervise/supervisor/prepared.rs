//! Hands out conf tokens. A token is told to the gateway only when every worker that serves knows what it means: its next
//! call may come over a connection of any of them.

use super::Supervisor;
use crate::supervise::control::message::ToWorker;
use crate::supervise::spawn::Worker;

/// Tokens that are assigned and not told yet.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Untold {
    last: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    sequence: u64,
    /// The worker that asked, and how it calls its question.
    asker: (u64, u64),
    token: u32,
    /// Workers that have not taken the conf yet.
    takers: Vec<u64>,
}

impl Supervisor {
    /// Worker `number` asks for the token of a PREPARE_CONF payload.
    pub(super) fn prepare(&mut self, number: u64, sequence: u64, payload: Vec<u8>) {
        let token = match self.tokens.assign(payload) {
            Ok(token) => token,
            Err(error) => return self.answer_token(number, sequence, Err(error.to_string())),
        };
        let takers = self.tell_conf(number, token);
        if takers.is_empty() {
            return self.answer_token(number, sequence, Ok(token));
        }
        let last = self.untold.last;
        self.untold.waiting.push(Waiting {
            sequence: last,
            asker: (number, sequence),
            token,
            takers,
        });
    }

    /// Tells the conf to every worker that serves, but for the one that asks. To whom.
    fn tell_conf(&mut self, asker: u64, token: u32) -> Vec<u64> {
        self.untold.last += 1;
        let sequence = Some(self.untold.last);
        let Some(payload) = self.tokens.payload(token) else {
            return Vec::new();
        };
        let others =
            |worker: &&Worker| worker.serving && worker.number != asker && !worker.is_over();
        let takers = self.workers().filter(others).map(|worker| {
            let conf = ToWorker::Conf { token, sequence };
            worker.tell_with(conf, payload.to_vec(), Vec::new());
            worker.number
        });
        takers.collect()
    }

    /// Worker `number` knows the conf of this sequence.
    pub(super) fn known(&mut self, number: u64, sequence: u64) {
        self.untold.take(number, Some(sequence));
        self.answer_told();
    }

    /// Ends worker `number`. It may take its time to die, which holds up nobody.
    pub(super) fn put_down(&mut self, number: u64) {
        let worker = self.workers().find(|worker| worker.number == number);
        worker.inspect(|worker| worker.kill());
        self.forget_worker(number);
    }

    /// Worker `number` is gone or was killed: nobody waits for what it should know.
    pub(super) fn forget_worker(&mut self, number: u64) {
        self.untold.take(number, None);
        self.answer_told();
    }

    fn answer_told(&mut self) {
        for (number, sequence, token) in self.untold.told() {
            self.answer_token(number, sequence, Ok(token));
        }
    }

    fn answer_token(&self, number: u64, sequence: u64, token: Result<u32, String>) {
        if let Some(worker) = self.workers().find(|worker| worker.number == number) {
            worker.tell(ToWorker::Token { sequence, token });
        }
    }
}

impl Untold {
    fn take(&mut self, number: u64, sequence: Option<u64>) {
        for waiting in &mut self.waiting {
            if sequence.is_none_or(|sequence| waiting.sequence == sequence) {
                waiting.takers.retain(|taker| *taker != number);
            }
        }
    }

    /// Those for whom nobody is waited any more: who asked, and the token.
    fn told(&mut self) -> Vec<(u64, u64, u32)> {
        let done = self
            .waiting
            .extract_if(.., |waiting| waiting.takers.is_empty());
        done.map(|waiting| (waiting.asker.0, waiting.asker.1, waiting.token))
            .collect()
    }
}
