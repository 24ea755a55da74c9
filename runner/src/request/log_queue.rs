//! Calls that wait to be logged: bounded by number and by bytes, worked off by threads of their own. A call for which
//! there is no room is dropped and counted; nobody ever waits here but those threads and the end of the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Calls that wait at most.
const MAX_JOBS: usize = 16_384;
/// Bytes that waiting calls may hold: one may have bodies of 16 MiB.
const MAX_BYTES: usize = 64 << 20;
/// Threads at most. They start when needed; a `log` that hangs holds one of them.
const THREADS: usize = 8;

/// One call to be logged.
pub trait Job: Send + 'static {
    /// About how much memory it holds.
    fn bytes(&self) -> usize;

    /// Runs on a log thread; may take as long as authors like.
    fn run(self);
}

/// The queue.
#[derive(Debug)]
pub struct LogQueue<J>(Arc<Shared<J>>);

impl<J> Clone for LogQueue<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<J> {
    waiting: Mutex<Waiting<J>>,
    more: Condvar,
    empty: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Waiting<J> {
    jobs: VecDeque<J>,
    bytes: usize,
    threads: usize,
    idle: usize,
}

impl<J: Job> Default for LogQueue<J> {
    /// An empty queue without threads.
    fn default() -> Self {
        Self(Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::new(),
                bytes: 0,
                threads: 0,
                idle: 0,
            }),
            more: Condvar::new(),
            empty: Condvar::new(),
            dropped: AtomicU64::new(0),
        }))
    }
}

impl<J: Job> LogQueue<J> {
    /// Takes a call, or drops and counts it. Any thread; never blocks.
    pub fn push(&self, job: J) {
        let bytes = job.bytes();
        let mut waiting = self.0.lock();
        if waiting.jobs.len() >= MAX_JOBS || waiting.bytes + bytes > MAX_BYTES {
            drop(waiting);
            return self.0.drop_one();
        }
        waiting.bytes += bytes;
        waiting.jobs.push_back(job);
        // A thread that is idle may have been told of an earlier call already.
        let start = waiting.jobs.len() > waiting.idle && waiting.threads < THREADS;
        waiting.threads += usize::from(start);
        drop(waiting);
        if start {
            self.start();
        } else {
            self.0.more.notify_one();
        }
    }

    /// Calls that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until nothing waits and no `log` runs, at most `within`. Returns whether that is so.
    pub fn drain(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut waiting = self.0.lock();
        while !(waiting.jobs.is_empty() && waiting.idle == waiting.threads) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.empty.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn start(&self) {
        let shared = Arc::clone(&self.0);
        let thread = thread::Builder::new().name("log".to_owned());
        if let Err(error) = thread.spawn(move || shared.work()) {
            let mut waiting = self.0.lock();
            waiting.threads -= 1;
            if waiting.threads == 0 {
                waiting.bytes = 0;
                let lost = std::mem::take(&mut waiting.jobs);
                drop(waiting);
                lost.iter().for_each(|_| self.0.drop_one());
                tracing::warn!(%error, "no thread to log calls on");
            }
        }
    }
}

impl<J: Job> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Waiting<J>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread. It ends when nobody can give it anything any more.
    fn work(self: Arc<Self>) {
        while let Some(job) = self.next() {
            // A panic of ours must not take the thread with it: it is counted as one that works.
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.run()));
            if ran.is_err() {
                tracing::error!("a call could not be logged: this is a fault of the runner");
            }
        }
    }

    fn next(self: &Arc<Self>) -> Option<J> {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.jobs.pop_front() {
                waiting.bytes -= job.bytes();
                return Some(job);
            }
            waiting.idle += 1;
            self.empty.notify_all();
            // Looks up now and then whether only threads hold the queue.
            let waited = self.more.wait_timeout(waiting, Duration::from_secs(5));
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            waiting.idle -= 1;
            if waiting.jobs.is_empty() && Arc::strong_count(self) <= waiting.threads {
                waiting.threads -= 1;
                return None;
            }
        }
    }

    fn drop_one(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if super::failures().admit("the log queue is full").is_some() {
            tracing::warn!(
                dropped,
                "calls end faster than their plugins' log phases take: some were not logged"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Told(mpsc::Sender<usize>, usize, Option<Arc<Mutex<()>>>);

    impl Job for Told {
        fn bytes(&self) -> usize {
            self.1
        }

        fn run(self) {
            drop(self.2.as_ref().map(|held| held.lock().unwrap()));
            self.0.send(self.1).unwrap();
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn every_call_is_logged_once() {
        let (told, heard) = mpsc::channel();
        let queue = LogQueue::default();
        (0..100).for_each(|number| queue.push(Told(told.clone(), number, None)));
        assert!(queue.drain(PATIENCE));
        let mut numbers: Vec<_> = heard.try_iter().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..100));
        assert_eq!(queue.dropped(), 0);
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted_and_the_rest_is_logged() {
        let (told, heard) = mpsc::channel();
        let stuck = Arc::new(Mutex::new(()));
        let hold = stuck.lock().unwrap();
        let queue = LogQueue::default();
        for _ in 0..THREADS + MAX_JOBS + 500 {
            queue.push(Told(told.clone(), 1, Some(Arc::clone(&stuck))));
        }
        // Each thread holds at most one that is not counted as waiting.
        let dropped = usize::try_from(queue.dropped()).unwrap();
        assert!((500..=500 + THREADS).contains(&dropped), "{dropped}");
        assert!(!queue.drain(Duration::ZERO));
        drop(hold);
        assert!(queue.drain(PATIENCE));
        assert_eq!(heard.try_iter().count(), THREADS + MAX_JOBS + 500 - dropped);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let (told, _heard) = mpsc::channel();
        let queue = LogQueue::default();
        queue.push(Told(told, MAX_BYTES + 1, None));
        assert_eq!(queue.dropped(), 1);
    }
}
