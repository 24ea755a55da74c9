//! The thread that deletes copies, so that neither the main loop nor the next copy waits for it: a disk that is busy, or
//! told to discard what is freed (mount option `discard` of ext4), takes seconds to close a file that was deleted.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use crate::supervise::staging::Staging;
use crate::supervise::workshop::Library;

/// A handle on the thread, which ends with it.
pub(in crate::supervise) struct Remover(mpsc::Sender<Job>);

enum Job {
    One(Library, Option<OwnedFd>),
    All(mpsc::Sender<()>),
}

impl Remover {
    pub(super) fn start(staging: Arc<Staging>) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel();
        let work = move || {
            for job in wanted {
                match job {
                    Job::One(library, copy) => {
                        staging.place.discard(&library);
                        drop(copy);
                    }
                    Job::All(done) => {
                        staging.place.remove();
                        drop(done);
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("removing".to_owned());
        thread.spawn(work)?;
        Ok(Self(jobs))
    }

    /// Deletes a copy, and closes it.
    pub(super) fn remove(&self, library: &Library, copy: Option<OwnedFd>) {
        self.ask(Job::One(library.clone(), copy));
    }

    /// Deletes all copies, in `time` at most: the next runner deletes what is left.
    pub(super) fn remove_all(&self, time: Duration) {
        let (done, over) = mpsc::channel();
        self.ask(Job::All(done));
        let _ = over.recv_timeout(time);
    }

    fn ask(&self, job: Job) {
        // The thread ends only with us.
        let _ = self.0.send(job);
    }
}
