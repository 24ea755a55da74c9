//! The thread that copies libraries, so that the main loop never waits for a disk.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::{io, thread};

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

/// A handle on the thread, which ends with it.
pub(in crate::supervise) struct Stager {
    jobs: mpsc::Sender<Job>,
    remover: Remover,
}

enum Job {
    Stage(PathBuf, u64),
    Recall(PathBuf, Sha256, u64, Option<OwnedFd>),
    Keep(Change, Option<OwnedFd>),
}

impl Stager {
    /// Without a store there are no last good copies.
    pub(in crate::supervise) fn start(
        staging: Staging,
        store: Option<Store>,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel();
        let staging = Arc::new(staging);
        let working = Arc::clone(&staging);
        let work = move || {
            for job in wanted {
                let event = carry_out(job, &working, store.as_ref());
                if event.is_some_and(|event| events.send(event).is_err()) {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("staging".to_owned())
            .spawn(work)?;
        let remover = Remover::start(staging)?;
        Ok(Self { jobs, remover })
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
        self.ask(Job::Keep(change, copy));
    }

    fn ask(&self, job: Job) {
        // The thread ends only with us.
        let _ = self.jobs.send(job);
    }

    /// Where copies go that nobody needs.
    pub(super) fn remover(&self) -> &Remover {
        &self.remover
    }
}

fn carry_out(job: Job, staging: &Staging, store: Option<&Store>) -> Option<Event> {
    match job {
        Job::Stage(file, generation) => {
            let outcome = staging.stage(&file, generation);
            Some(Event::Staged(StagerReport { file, outcome }))
        }
        Job::Recall(file, sha256, generation, copy) => {
            let bytes = content(store, sha256, copy);
            let outcome = bytes.and_then(|bytes| staging.recall(&file, &bytes, sha256, generation));
            Some(Event::Recalled(RecallReport {
                file,
                generation,
                sha256,
                outcome,
            }))
        }
        Job::Keep(change, copy) => {
            keep(change, copy, store?);
            None
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

fn keep(change: Change, copy: Option<OwnedFd>, store: &Store) {
    let file = change.file.display().to_string();
    if let Err(cause) = store.change(change, copy) {
        tracing::warn!(
            cause = %cause,
            hint = "mend state.dir, or make room in it",
            "the last good copy of {file} is not kept for a later start"
        );
    }
}
