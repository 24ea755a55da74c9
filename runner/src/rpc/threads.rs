//! Blocking threads for calls that may not run on an event loop: bounded, and waited for within the deadline.

use std::cell::OnceCell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use super::connection::{Connection, Turn, error_frame};
use super::{buffers, run};
use crate::request::moment::Moment;
use crate::request::permits;
use crate::request::service::{Blame, Call, ErrorCode};

thread_local! {
    static BLAME: Arc<Blame> = Arc::default();
    /// By when this thread's call must be answered; see [`Busy`].
    static UNTIL: OnceCell<Arc<AtomicU64>> = const { OnceCell::new() };
}

/// By when the calls on all threads must be answered: in nanoseconds of the monotonic clock, 0 for a thread without a call.
#[derive(Debug, Default)]
struct Busy {
    threads: Mutex<Vec<Weak<AtomicU64>>>,
}

impl Busy {
    fn threads(&self) -> MutexGuard<'_, Vec<Weak<AtomicU64>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes by when the call on this thread must be answered.
    fn note(&self, until: u64) {
        UNTIL.with(|own| {
            let own = own.get_or_init(|| {
                let own = Arc::default();
                self.threads().push(Arc::downgrade(&own));
                own
            });
            own.store(until, Ordering::Relaxed);
        });
    }

    /// Threads whose call should have been answered by `now`.
    fn late(&self, now: Moment) -> usize {
        let now = now.nanos();
        let mut late = 0;
        self.threads().retain(|thread| {
            let until = thread.upgrade().map(|until| until.load(Ordering::Relaxed));
            late += usize::from(until.is_some_and(|until| until != 0 && until < now));
            until.is_some()
        });
        late
    }
}

/// The way to the blocking threads.
#[derive(Debug, Clone)]
pub(super) struct Threads {
    handle: Handle,
    /// One permit per thread, so that nothing ever queues up behind a thread: a call waits for its permit instead.
    room: Arc<Semaphore>,
    busy: Arc<Busy>,
}

impl Threads {
    /// Makes a runtime with room for `count` blocking threads; they start when needed. The runtime's own thread
    /// only waits for permits: plugin code never runs there, so its timers are always right.
    ///
    /// # Errors
    /// No thread or no descriptors to be had.
    pub(super) fn start(count: usize) -> io::Result<(Self, Runtime)> {
        let count = count.max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(count)
            .thread_name("calls")
            .enable_time()
            .build()?;
        let threads = Self {
            handle: runtime.handle().clone(),
            room: Arc::new(Semaphore::new(count)),
            busy: Arc::default(),
        };
        Ok((threads, runtime))
    }

    /// Threads that are still in a call although it should have been answered by now.
    pub(super) fn late(&self) -> usize {
        self.busy.late(Moment::now())
    }

    /// Runs `call` on a thread as soon as it has a permit of each of `permits` and a thread; until then it holds none. It
    /// starts with all permits, and keeps that of the thread and the one of the plugin that runs.
    /// A call that gets none by its deadline ends unanswered: its connection answers it.
    pub(super) fn dispatch<C: Call>(
        &self,
        connection: Arc<Connection<C>>,
        turn: Turn,
        call: C,
        permits: Vec<Arc<Semaphore>>,
    ) {
        let mut wanted = permits;
        wanted.push(Arc::clone(&self.room));
        let busy = Arc::clone(&self.busy);
        if let Ok(held) = permits::try_all(&wanted) {
            let held = self.split(held);
            self.handle
                .spawn_blocking(move || run_on_thread(&connection, turn, call, held, &busy));
            return;
        }
        let this = self.clone();
        self.handle.spawn(async move {
            match timeout_at(turn.deadline.into(), permits::all(&wanted)).await {
                Ok(Some(held)) => {
                    let held = this.split(held);
                    this.handle.spawn_blocking(move || {
                        run_on_thread(&connection, turn, call, held, &busy)
                    });
                }
                Ok(None) => {
                    let replied =
                        connection.reply(turn, error_frame(ErrorCode::ServiceUnavailable));
                    buffers::give(call.finish(replied.sent));
                }
                Err(_) => buffers::give(call.finish(false)),
            }
        });
    }

    fn split(&self, permits: Vec<OwnedSemaphorePermit>) -> Held {
        let is_room = |permit: &OwnedSemaphorePermit| Arc::ptr_eq(permit.semaphore(), &self.room);
        let (room, plugins) = permits.into_iter().partition(is_room);
        Held {
            _room: room,
            plugins,
        }
    }
}

/// What a call on a thread holds.
struct Held {
    /// Of the thread.
    _room: Vec<OwnedSemaphorePermit>,
    plugins: Vec<OwnedSemaphorePermit>,
}

fn run_on_thread<C: Call>(
    connection: &Connection<C>,
    turn: Turn,
    call: C,
    held: Held,
    busy: &Busy,
) {
    busy.note(turn.deadline.nanos());
    let blame = BLAME.with(Arc::clone);
    let wanted = connection.running(turn, |running| running.blame = Some(Arc::clone(&blame)));
    if wanted {
        permits::holding(held.plugins, || run::run(connection, turn, call, &blame));
    } else {
        buffers::give(call.finish(false));
    }
    busy.note(0);
}
