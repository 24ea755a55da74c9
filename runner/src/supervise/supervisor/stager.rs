//! The threads that copy libraries, so that the main loop never waits for a disk.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::{io, iter, thread};

use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use super::remover::Remover;
use crate::supervise::last_good::{self, Change, Store};
use crate::supervise::staging::{Outcome, Staging};
use crate::supervise::workshop::{Library, Sha256};

/// What became of a file.
#[derive(Debug)]
pub(in crate::supervise) struct StagerReport {
    pub(in crate::supervise) file: PathBuf,
    pub(in crate::supervise) outcome: Outcome,
}

/// What became of a last good copy: made ready, or why it is of no use.
#[derive(Debug)]
pub(in crate::supervise) struct RecallReport {
    pub(in crate::supervise) file: PathBuf,
    pub(in crate::supervise) generation: u64,
    pub(in crate::supervise) sha256: Sha256,
    pub(in crate::supervise) outcome: io::Result<(Library, OwnedFd)>,
}

/// Libraries that are copied at once at most, however many cores there are.
const MOST: usize = 8;

/// A handle on the threads, which end with it.
pub(in crate::supervise) struct Stager {
    jobs: mpsc::Sender<Job>,
    keeps: mpsc::Sender<Keep>,
    remover: Remover,
}

enum Job {
    Stage(PathBuf, u64),
    Recall(PathBuf, Sha256, u64, Option<OwnedFd>),
}

/// Which copies of a file are good, and the newest of them.
type Keep = (Change, Option<OwnedFd>);

/// What every thread has.
#[derive(Clone)]
struct Bench {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    staging: Arc<Staging>,
    store: Option<Arc<Store>>,
    events: UnboundedSender<Event>,
}

impl Stager {
    /// Starts a thread per core, and one for what is kept. Without a store there are no last good copies.
    pub(in crate::supervise) fn start(
        staging: Staging,
        store: Option<Store>,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel();
        let (keeps, good) = mpsc::channel();
        let bench = Bench {
            jobs: Arc::new(Mutex::new(wanted)),
            staging: Arc::new(staging),
            store: store.map(Arc::new),
            events,
        };
        let (staging, store) = (Arc::clone(&bench.staging), bench.store.clone());
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("last good").spawn(move || keep_all(&good, store.as_deref()))?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.min(MOST) {
            let bench = bench.clone();
            named("staging").spawn(move || bench.work())?;
        }
        Ok(Self {
            jobs,
            keeps,
            remover: Remover::start(staging)?,
        })
    }

    /// Asks for a copy; a report follows.
    pub(super) fn stage(&self, file: PathBuf, generation: u64) {
        self.ask(Job::Stage(file, generation));
    }

    /// Asks for a copy of what served for a file with this content: from `copy`, or from the store; a report follows.
    pub(super) fn recall(
        &self,
        file: PathBuf,
        sha256: Sha256,
        generation: u64,
        copy: Option<OwnedFd>,
    ) {
        self.ask(Job::Recall(file, sha256, generation, copy));
    }

    /// Notes which copies of a file are good, and keeps the content of the newest.
    pub(super) fn keep(&self, change: Change, copy: Option<OwnedFd>) {
        // The thread ends only with us.
        let _ = self.keeps.send((change, copy));
    }

    fn ask(&self, job: Job) {
        // The threads end only with us.
        let _ = self.jobs.send(job);
    }

    /// Where copies go that nobody needs.
    pub(super) fn remover(&self) -> &Remover {
        &self.remover
    }
}

impl Bench {
    fn work(&self) {
        loop {
            // Whoever waits holds the lock; the others wait for it.
            let job = {
                let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.recv()
            };
            let Ok(job) = job else { return };
            if self.events.send(self.carry_out(job)).is_err() {
                return;
            }
        }
    }

    fn carry_out(&self, job: Job) -> Event {
        match job {
            Job::Stage(file, generation) => {
                let outcome = self.staging.stage(&file, generation);
                Event::Staged(StagerReport { file, outcome })
            }
            Job::Recall(file, sha256, generation, copy) => {
                let bytes = content(self.store.as_deref(), sha256, copy);
                let staging = &self.staging;
                let outcome = bytes.and_then(|it| staging.recall(&file, &it, sha256, generation));
                Event::Recalled(RecallReport {
                    file,
                    generation,
                    sha256,
                    outcome,
                })
            }
        }
    }
}

fn content(store: Option<&Store>, sha256: Sha256, copy: Option<OwnedFd>) -> io::Result<Vec<u8>> {
    match (copy, store) {
        (Some(copy), _) => last_good::read_copy(copy, sha256),
        (None, Some(store)) => store.read(sha256),
        (None, None) => Err(io::Error::other("there is no state.dir to keep it in")),
    }
}

/// All that have come meanwhile at once: at a start that is one for each library, and each writes the whole index.
fn keep_all(good: &mpsc::Receiver<Keep>, store: Option<&Store>) {
    while let Ok(first) = good.recv() {
        let Some(store) = store else { continue };
        let changes = iter::once(first).chain(good.try_iter());
        for (file, cause) in store.change(changes) {
            tracing::warn!(
                cause = %cause,
                hint = "mend state.dir, or make room in it",
                "the last good copy of {} is not kept for a later start",
                file.display()
            );
        }
    }
}
