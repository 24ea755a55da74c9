//! Drops author values away from the calls: an author's `Drop` may take long, and the last holder of a value is
//! often a call on an event loop.

use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// Runs `job` on the one thread for this, after all that were handed in before.
pub fn later(job: impl FnOnce() + Send + 'static) {
    static JOBS: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    let Some(jobs) = JOBS.get_or_init(start) else {
        // No thread to be had: better a value that stays than a loop that waits for its `Drop`.
        std::mem::forget(job);
        return;
    };
    // The thread lives as long as the process, so its end of the channel is always there.
    let _ = jobs.send(Box::new(job));
}

fn start() -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let thread = std::thread::Builder::new().name("retire".to_owned());
    let started = thread.spawn(move || jobs.into_iter().for_each(|job| job()));
    started
        .inspect_err(|error| tracing::warn!(%error, "no thread to drop old plugin values on: they stay in memory"))
        .ok()
        .map(|_| sender)
}
