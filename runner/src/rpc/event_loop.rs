//! One event loop: a thread with a tokio current-thread runtime, its connections' epoll set, and the note of how long it
//! has been busy.
//!
//! What runs on it is decided elsewhere. A loop whose thread is stuck is left behind: its connections and its place
//! go to a fresh one, and it ends when the thread comes back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

use super::poller::Poller;
use super::watchdog::Alarm;
use crate::request::moment::Moment;
use crate::request::service::{Blame, Call};

/// Number of a loop in this process, never used again.
pub(super) type LoopId = u64;

/// No loop: the owner of a connection that is on its way to another process.
pub(super) const NOBODY: LoopId = 0;

/// In the place of when a call began: the thread is in none, and does not wait for events either.
const READS: u64 = 1;

/// An event loop, as its own thread and the watchdog see it.
pub(super) struct EventLoop<C: Call> {
    pub(super) id: LoopId,
    /// Its connections.
    pub(super) poller: Poller<C>,
    /// Tasks spawned here run on the loop's thread.
    pub(super) handle: Handle,
    /// Which plugin code runs on the loop's thread.
    pub(super) blame: Arc<Blame>,
    /// When the thread began what it is doing now, in nanoseconds of the monotonic clock; [`READS`] between calls, and 0 when
    /// it waits for events.
    began: AtomicU64,
    replaced: AtomicBool,
    /// When it took the place of a stuck one.
    took_over: OnceLock<Instant>,
    end: Notify,
    /// What the kernel says of the thread.
    kernel: OnceLock<Kernel>,
}

/// Files of the kernel about one thread. They stay open, as opening them takes longer than reading.
#[derive(Debug)]
struct Kernel {
    schedstat: File,
    stat: File,
}

impl Kernel {
    /// Of the thread that calls.
    fn of_this_thread() -> io::Result<Self> {
        Ok(Self {
            schedstat: File::open("/proc/thread-self/schedstat")?,
            stat: File::open("/proc/thread-self/stat")?,
        })
    }
}

/// How a loop's thread got on with processors since it started; zero if the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Processor {
    /// Time on one, up to now.
    pub(super) had: Duration,
    /// Time without one, though there was something to do. The wait that goes on now is not in it: the kernel adds it when
    /// it is over.
    pub(super) starved: Duration,
}

/// What a loop's thread is at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// Tells it from other work.
    pub(super) began: u64,
    pub(super) busy: Duration,
}

/// The loop's thread is at work, until this is dropped.
pub(super) struct Busy<'a, C: Call>(&'a EventLoop<C>);

impl<C: Call> EventLoop<C> {
    /// Starts the thread; it serves nothing yet. `stuck` is counted down when it ends after a replacement.
    ///
    /// # Errors
    /// No thread or no descriptors to be had.
    pub(super) fn start(id: LoopId, stuck: Arc<AtomicUsize>) -> io::Result<Arc<Self>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let event_loop = Arc::new(Self {
            id,
            poller: Poller::new()?,
            handle: runtime.handle().clone(),
            blame: Arc::default(),
            began: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            took_over: OnceLock::new(),
            end: Notify::new(),
            kernel: OnceLock::new(),
        });
        let this = Arc::clone(&event_loop);
        std::thread::Builder::new()
            .name(format!("loop-{id}"))
            .spawn(move || {
                if let Ok(kernel) = Kernel::of_this_thread() {
                    let _ = this.kernel.set(kernel);
                }
                runtime.block_on(this.end.notified());
                runtime.shutdown_background();
                if this.is_replaced() {
                    stuck.fetch_sub(1, Ordering::Relaxed);
                }
            })?;
        Ok(event_loop)
    }

    /// Notes that the thread works from `now` on; the watchdog looks after it.
    #[inline]
    pub(super) fn enter(&self, alarm: &Alarm, now: Moment) -> Busy<'_, C> {
        // SeqCst, as in `Alarm::rest`: either the watchdog sees this, or we see that it rests.
        self.began.store(now.nanos(), Ordering::SeqCst);
        alarm.rouse();
        Busy(self)
    }

    /// Notes that the thread reads what has come, and will not rest before this is dropped.
    pub(super) fn enter_reading(&self, alarm: &Alarm) -> Busy<'_, C> {
        self.began.store(READS, Ordering::SeqCst);
        alarm.rouse();
        Busy(self)
    }

    /// Notes that the thread, which does not rest, begins with a call now.
    #[inline]
    pub(super) fn begin_call(&self, now: Moment) {
        self.began.store(now.nanos(), Ordering::Relaxed);
    }

    /// Notes that the thread, which does not rest, is in no call any more.
    #[inline]
    pub(super) fn read_on(&self) {
        self.began.store(READS, Ordering::Relaxed);
    }

    /// Whether the thread does not wait for events.
    pub(super) fn is_awake(&self) -> bool {
        self.began.load(Ordering::SeqCst) != 0
    }

    /// What the thread is at; `None` when it waits for events, or reads what has come.
    pub(super) fn work(&self) -> Option<Work> {
        let began = self.began.load(Ordering::SeqCst);
        let busy = Moment::now().nanos().saturating_sub(began);
        (began > READS).then(|| Work {
            began,
            busy: Duration::from_nanos(busy),
        })
    }

    /// See [`Processor`].
    pub(super) fn processor(&self) -> Processor {
        let mut room = [0; 64];
        let kernel = self.kernel.get();
        let text = kernel.and_then(|kernel| text(&kernel.schedstat, &mut room));
        // proc(5): time on a processor, time in the run queue (both ns), time slices.
        let mut times = text.unwrap_or_default().split_whitespace();
        let mut time =
            || Duration::from_nanos(times.next().and_then(|it| it.parse().ok()).unwrap_or(0));
        Processor {
            had: time(),
            starved: time(),
        }
    }

    /// Whether the thread runs or waits for a processor, and not for anything else; `false` if the kernel does not tell.
    pub(super) fn is_runnable(&self) -> bool {
        let mut room = [0; 128];
        let kernel = self.kernel.get();
        let text = kernel.and_then(|kernel| text(&kernel.stat, &mut room));
        // proc(5): number, name in brackets, state.
        let state = text.and_then(|text| text.rsplit_once(") "));
        state.is_some_and(|(_, state)| state.starts_with('R'))
    }

    /// Notes that it takes the place of a stuck one now.
    pub(super) fn take_over(&self) {
        let _ = self.took_over.set(Instant::now());
    }

    /// How long ago it took the place of a stuck one, if it did.
    pub(super) fn took_over(&self) -> Option<Duration> {
        self.took_over.get().map(Instant::elapsed)
    }

    /// Whether another loop has taken this one's place.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    /// Marks the loop as replaced; its thread ends as soon as it comes back.
    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Release);
        self.end.notify_one();
    }

    /// Ends the thread once it waits for events. Tasks on it are dropped.
    pub(super) fn end(&self) {
        self.end.notify_one();
    }
}

/// The beginning of a file of the kernel, as much of it as there is room for.
fn text<'a>(file: &File, room: &'a mut [u8]) -> Option<&'a str> {
    let len = file.read_at(room, 0).ok()?;
    std::str::from_utf8(room.get(..len)?).ok()
}

impl<C: Call> Drop for Busy<'_, C> {
    #[inline]
    fn drop(&mut self) {
        self.0.began.store(0, Ordering::Release);
    }
}
