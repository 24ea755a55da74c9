//! Connections that ask for the same thing all the time and watch what they get: old answers, then new ones.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

use super::gateway::Gateway;
use crate::http::{Client, Request};

/// Between two requests of one connection, so that the compiler gets a share of the processor.
const PAUSE: Duration = Duration::from_millis(1);

/// New answers of one connection that show that no old one comes back.
const ENOUGH: usize = 200;

/// What the connections got.
#[derive(Default)]
pub(super) struct Counts {
    /// Answers of the old plugin.
    pub(super) old: usize,
    /// Answers of the new one.
    pub(super) new: usize,
    /// Everything else: broken connections, other statuses, other texts, an old answer after a new one.
    pub(super) failures: Vec<String>,
    /// Connections that have seen a new answer.
    moved: usize,
    /// Connections that have seen [`ENOUGH`] of them.
    settled: usize,
}

#[derive(Default)]
struct Shared {
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// Running connections.
pub(super) struct Load {
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
    shared: Arc<Shared>,
}

impl Load {
    /// Starts the connections; each has been answered once when this returns.
    ///
    /// # Errors
    /// The gateway does not accept, or answers something else than `old`.
    pub(super) fn start(
        gateway: &Gateway,
        connections: usize,
        old: &'static str,
        new: &'static str,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for _ in 0..connections {
            let mut client = gateway.client()?;
            match client.send(&Request::get("/stop"))?.body.trim() {
                body if body == old => {}
                body => bail!("expected `{old}`, got `{body}`"),
            }
            let (stop, stopped) = mpsc::channel();
            let shared = shared.clone();
            let thread = std::thread::spawn(move || {
                let mut new_answers = 0;
                while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    if !shared.count(&mut client, old, new, &mut new_answers) {
                        break;
                    }
                }
            });
            threads.push((stop, thread));
        }
        Ok(Self { threads, shared })
    }

    /// Waits until every connection has got a new answer, or one a failure.
    ///
    /// # Errors
    /// The time is up.
    pub(super) fn wait_until_new(&self, deadline: Duration) -> Result<()> {
        self.wait_for(deadline, |counts| counts.moved)
    }

    /// Waits until every connection has got many new answers, or one a failure.
    ///
    /// # Errors
    /// The time is up.
    pub(super) fn wait_until_settled(&self, deadline: Duration) -> Result<()> {
        self.wait_for(deadline, |counts| counts.settled)
    }

    fn wait_for(&self, deadline: Duration, done: fn(&Counts) -> usize) -> Result<()> {
        let all = self.threads.len();
        let counts = self
            .shared
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waiting = |counts: &mut Counts| done(counts) < all && counts.failures.is_empty();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(counts, deadline, waiting);
        let (counts, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            bail!(
                "{} of {all} connections did not get the new answer within {} s",
                all - done(&counts),
                deadline.as_secs()
            );
        }
        Ok(())
    }

    /// Ends the connections.
    pub(super) fn stop(self) -> Counts {
        for (stop, thread) in self.threads {
            drop(stop);
            // A thread that panicked has said so on the terminal.
            let _ = thread.join();
        }
        std::mem::take(
            &mut *self
                .shared
                .counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Shared {
    /// One request; `false` when the connection is of no use any more.
    fn count(&self, client: &mut Client, old: &str, new: &str, new_answers: &mut usize) -> bool {
        let answer = client.send(&Request::get("/stop"));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match &answer {
            Ok(answer) if answer.status == 200 && answer.body.trim() == new => {
                counts.new += 1;
                *new_answers += 1;
                counts.moved += usize::from(*new_answers == 1);
                counts.settled += usize::from(*new_answers == ENOUGH);
            }
            Ok(answer)
                if answer.status == 200 && answer.body.trim() == old && *new_answers == 0 =>
            {
                counts.old += 1
            }
            Ok(answer) => counts
                .failures
                .push(format!("status {}: {}", answer.status, answer.body)),
            Err(error) => counts.failures.push(format!("{error:#}")),
        }
        self.changed.notify_all();
        answer.is_ok()
    }
}
