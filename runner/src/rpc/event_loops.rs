//! All event loops with their connections: which loop serves at which place, and how a stuck one is replaced.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::connection::Connection;
use super::event_loop::{EventLoop, LoopId};
use super::server::Shared;
use super::watchdog::Cause;
use super::{listener, poller, task};
use crate::request::moment::Moment;
use crate::request::service::{Call, Service, Watched};

/// The loops of a server and the connections they serve.
pub(super) struct EventLoops<C: Call> {
    table: Mutex<Table<C>>,
    /// A connection has gone.
    fewer: Condvar,
    next_id: AtomicU64,
    stuck: Arc<AtomicUsize>,
}

struct Table<C: Call> {
    /// The loop that serves at each place.
    serving: Vec<Arc<EventLoop<C>>>,
    /// Those that were replaced, while their threads have not come back.
    left: Vec<Weak<EventLoop<C>>>,
    /// Ready to replace a stuck loop at once.
    spare: Option<Arc<EventLoop<C>>>,
    connections: HashMap<u64, Arc<Connection<C>>>,
}

impl<C: Call> EventLoops<C> {
    /// Starts `count` loops and a spare one. None accepts yet.
    ///
    /// # Errors
    /// No threads or no descriptors to be had.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let loops = Self {
            table: Mutex::new(Table {
                serving: Vec::new(),
                left: Vec::new(),
                spare: None,
                connections: HashMap::new(),
            }),
            fewer: Condvar::new(),
            next_id: AtomicU64::new(1),
            stuck: Arc::default(),
        };
        for _ in 0..count.max(1) {
            let fresh = loops.fresh()?;
            loops.lock().serving.push(fresh);
        }
        let spare = loops.fresh()?;
        loops.lock().spare = Some(spare);
        Ok(loops)
    }

    fn fresh(&self) -> io::Result<Arc<EventLoop<C>>> {
        EventLoop::start(self.id(), Arc::clone(&self.stuck))
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Table<C>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loops that serve now.
    pub(super) fn current(&self) -> Vec<Arc<EventLoop<C>>> {
        self.lock().serving.clone()
    }

    /// Loops that were replaced and whose threads have not come back.
    pub(super) fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Replaced loops whose threads have been in one call for longer than `limit`.
    pub(super) fn late(&self, limit: Duration) -> usize {
        let mut table = self.lock();
        table.left.retain(|left| left.strong_count() > 0);
        let works = table.left.iter().filter_map(|left| left.upgrade()?.work());
        works.filter(|work| work.busy > limit).count()
    }

    /// Every connection.
    pub(super) fn connections(&self) -> Vec<Arc<Connection<C>>> {
        self.lock().connections.values().cloned().collect()
    }

    /// Number of connections.
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Forgets a closed connection.
    pub(super) fn remove(&self, id: u64) {
        self.lock().connections.remove(&id);
        self.fewer.notify_all();
    }

    /// Waits until there is no connection, at most for `time`. Returns whether there is none.
    pub(super) fn wait_until_empty(&self, time: Duration) -> bool {
        let (table, _) = self
            .fewer
            .wait_timeout_while(self.lock(), time, |table| !table.connections.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        table.connections.is_empty()
    }

    /// Ends the threads of all loops that are not stuck.
    pub(super) fn end(&self) {
        let table = self.lock();
        for each in table.serving.iter().chain(&table.spare) {
            each.end();
        }
    }
}

impl<C: Call> EventLoops<C> {
    /// Enters a new connection for the loop `home`, or for another one if that has been replaced or none is named.
    fn enter(
        &self,
        home: Option<LoopId>,
        socket: OwnedFd,
        deadline: Duration,
    ) -> Option<Entered<C>> {
        let id = self.id();
        let mut table = self.lock();
        let chosen = table
            .serving
            .iter()
            .find(|each| Some(each.id) == home)
            .or_else(|| table.serving.get(id as usize % table.serving.len().max(1)))?;
        let chosen = Arc::clone(chosen);
        let connection = Arc::new(Connection::new(id, socket, chosen.id, deadline));
        table
            .connections
            .insert(connection.id, Arc::clone(&connection));
        Some((chosen, connection))
    }

    /// Puts `fresh` in the place of `stuck` and gives it all its connections.
    fn replace(&self, stuck: &Arc<EventLoop<C>>, fresh: &Arc<EventLoop<C>>) -> Option<Moved<C>> {
        let mut table = self.lock();
        let place = table.serving.iter_mut().find(|each| each.id == stuck.id)?;
        *place = Arc::clone(fresh);
        fresh.take_over();
        let mut moved = Moved {
            connections: Vec::new(),
            culprits: Vec::new(),
        };
        for connection in table.connections.values() {
            if let Some(culprit) = connection.hand_over(stuck.id, fresh.id, &stuck.blame) {
                moved.culprits.extend(culprit);
                moved.connections.push(Arc::clone(connection));
            }
        }
        // Last: a loop that is not stuck any more ends at once, and would close what it still had.
        self.stuck.fetch_add(1, Ordering::Relaxed);
        table.left.push(Arc::downgrade(stuck));
        stuck.replace();
        Some(moved)
    }

    fn spare(&self) -> io::Result<Arc<EventLoop<C>>> {
        let spare = self.lock().spare.take();
        spare.map_or_else(|| self.fresh(), Ok)
    }
}

/// A new connection, and the loop that is to serve it.
type Entered<C> = (Arc<EventLoop<C>>, Arc<Connection<C>>);

/// What a fresh loop has taken from a stuck one.
struct Moved<C: Call> {
    connections: Vec<Arc<Connection<C>>>,
    /// The calls that ran on the stuck loop itself (one at most), and when they started.
    culprits: Vec<(Option<C::Watched>, Moment)>,
}

/// Serves a new connection on the loop `home`, or on another if that one has been replaced or none is named.
pub(super) fn adopt<S: Service>(shared: &Arc<Shared<S>>, home: Option<LoopId>, socket: OwnedFd) {
    let entered = shared.loops.enter(home, socket, shared.settings.deadline);
    // Outside the lock: on a loop that has just ended, the task is dropped at once and takes the lock itself.
    if let Some((chosen, connection)) = entered {
        task::spawn(shared, &chosen, connection);
    }
}

/// Serves a connection that belonged to nobody.
pub(super) fn keep<S: Service>(shared: &Arc<Shared<S>>, connection: &Connection<S::Call>) {
    // A descriptor of its own: the task that had the connection may still watch the first one.
    match rustix::io::fcntl_dupfd_cloexec(connection.socket(), 3) {
        Ok(socket) => adopt(shared, None, socket),
        Err(cause) => {
            tracing::warn!(cause = %cause, "a connection that nobody could take is closed");
        }
    }
    shared.loops.remove(connection.id);
}

/// Puts a fresh loop in the place of `stuck`, with all its connections, also the one whose call holds it up.
pub(super) fn take_over<S: Service>(
    shared: &Arc<Shared<S>>,
    stuck: &Arc<EventLoop<S::Call>>,
    cause: Cause,
    busy: Duration,
) {
    let loops = &shared.loops;
    let fresh = match loops.spare() {
        Ok(fresh) => fresh,
        Err(error) => {
            if let Some(before) = shared.faults.admit("no loop") {
                tracing::error!(%error, before, "an event loop is stuck and no other can be started: its connections wait");
            }
            return;
        }
    };
    let Some(moved) = loops.replace(stuck, &fresh) else {
        return;
    };
    if cause == Cause::Call {
        // First: what waited with them may be of the same plugin, and then runs on threads.
        for (watched, started) in moved.culprits {
            let plain = || shared.service.watched(&stuck.blame);
            if let Some(watched) = watched.or_else(plain) {
                watched.slow(&stuck.blame, started.elapsed());
            }
        }
    }
    poller::spawn(shared, &fresh);
    listener::spawn(shared, &fresh);
    let connections = moved.connections.len();
    for connection in moved.connections {
        task::spawn(shared, &fresh, connection);
    }
    let busy_ms = busy.as_millis() as u64;
    match cause {
        Cause::Call => tracing::debug!(
            busy_ms,
            connections,
            "a call holds up its event loop: a fresh one has taken its place"
        ),
        Cause::Machine => {
            if let Some(before) = shared.faults.admit("starved") {
                tracing::warn!(
                    busy_ms,
                    before,
                    "an event loop gets no processor: the machine is overloaded"
                );
            }
        }
    }
}

/// Makes a spare loop ready, if there is none: after all that had to be replaced.
pub(super) fn replenish<S: Service>(shared: &Arc<Shared<S>>) {
    let loops = &shared.loops;
    if loops.lock().spare.is_some() {
        return;
    }
    match loops.fresh() {
        Ok(spare) => loops.lock().spare = Some(spare),
        Err(error) => tracing::warn!(%error, "no spare event loop could be started"),
    }
}
