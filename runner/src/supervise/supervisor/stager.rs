//! The thread that copies libraries, so that the main loop never waits for a disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::{io, thread};

use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use crate::supervise::staging::{Outcome, Staging};
use crate::supervise::workshop::Library;

/// What became of a file.
#[derive(Debug)]
pub(in crate::supervise) struct StagerReport {
    pub(in crate::supervise) file: PathBuf,
    pub(in crate::supervise) outcome: Outcome,
}

/// A handle on the thread, which ends with it.
pub(in crate::supervise) struct Stager {
    staging: Arc<Staging>,
    jobs: mpsc::Sender<(PathBuf, u64)>,
}

impl Stager {
    pub(in crate::supervise) fn start(
        staging: Staging,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel::<(PathBuf, u64)>();
        let staging = Arc::new(staging);
        let working = Arc::clone(&staging);
        let work = move || {
            for (file, generation) in wanted {
                let outcome = working.stage(&file, generation);
                let report = StagerReport { file, outcome };
                if events.send(Event::Staged(report)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("staging".to_owned())
            .spawn(work)?;
        Ok(Self { staging, jobs })
    }

    /// Asks for a copy; a report follows.
    pub(super) fn stage(&self, file: PathBuf, generation: u64) {
        // The thread ends only with us.
        let _ = self.jobs.send((file, generation));
    }

    /// Deletes a copy.
    pub(super) fn discard(&self, library: &Library) {
        self.staging.place.discard(library);
    }

    /// Deletes all copies.
    pub(super) fn remove_all(&self) {
        self.staging.place.remove();
    }
}
