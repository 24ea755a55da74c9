//! Which connections of one event loop have bytes: an epoll set of the loop's own. A connection that waits for its next
//! call is looked after here and by no task, so a plain call passes through none, and through no timer.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{Timespec, epoll};
use slab::Slab;
use tokio::io::Interest;

use super::connection::Connection;
use super::event_loop::EventLoop;
use super::readiness;
use super::server::Shared;
use super::serving::{Attended, Serving};
use crate::request::service::{Call, Service};

/// Connections that are served before the set is asked again.
const BATCH: usize = 64;

/// Looks at the set before the loop's tasks have their turn.
const LOOKS: usize = 8;

/// With fewer connections than this at a look, the next one would most likely find nothing.
const BUSY: usize = 4;

/// The epoll set of one event loop.
pub(super) struct Poller<C: Call> {
    epoll: OwnedFd,
    watched: Mutex<Slab<Arc<Connection<C>>>>,
}

/// A connection is in the set, until this is dropped.
pub(super) struct Watching<'a, C: Call> {
    poller: &'a Poller<C>,
    connection: &'a Connection<C>,
    key: usize,
}

impl<C: Call> Poller<C> {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            watched: Mutex::default(),
        })
    }

    /// Adds a connection. If there are bytes already, the next look finds it.
    ///
    /// # Errors
    /// The kernel watches no more descriptors.
    pub(super) fn watch<'a>(
        &'a self,
        connection: &'a Arc<Connection<C>>,
    ) -> io::Result<Watching<'a, C>> {
        let key = self.lock().insert(Arc::clone(connection));
        // From here on the key is freed whatever happens.
        let watching = Watching {
            poller: self,
            connection,
            key,
        };
        let data = epoll::EventData::new_u64(key as u64);
        // For reading only: for writing, too, it would wake the loop whenever the gateway reads a reply.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, connection.socket(), data, flags)?;
        Ok(watching)
    }

    /// The connections that bytes have come for since they were last told, or an end.
    fn ready(&self, ready: &mut Vec<Ready<C>>) -> io::Result<()> {
        let mut room = [const { MaybeUninit::uninit() }; BATCH];
        let (events, _) = epoll::wait(&self.epoll, &mut room, Some(&NO_TIME))?;
        let watched = self.lock();
        ready.extend(events.iter().filter_map(|event| {
            let (key, flags) = (event.data.u64() as usize, event.flags);
            Some(Ready {
                connection: Arc::clone(watched.get(key)?),
                ended: flags.intersects(ENDED),
            })
        }));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Arc<Connection<C>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that there is something to read of.
struct Ready<C: Call> {
    connection: Arc<Connection<C>>,
    /// Its peer has closed: behind the bytes there is an end, for which no further event comes.
    ended: bool,
}

const ENDED: epoll::EventFlags = epoll::EventFlags::RDHUP
    .union(epoll::EventFlags::HUP)
    .union(epoll::EventFlags::ERR);

const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl<C: Call> Drop for Watching<'_, C> {
    fn drop(&mut self) {
        // Fails if it was never added. Closing the descriptor is not enough: another process may have it, too.
        let _ = epoll::delete(&self.poller.epoll, self.connection.socket());
        drop(self.poller.lock().try_remove(self.key));
    }
}

/// Serves what is in the set of `home`, as long as the loop lives.
pub(super) fn spawn<S: Service>(shared: &Arc<Shared<S>>, home: &Arc<EventLoop<S::Call>>) {
    let polling = Polling {
        shared: Arc::clone(shared),
        home: Arc::clone(home),
        ready: Vec::with_capacity(BATCH),
        again: Vec::new(),
    };
    home.handle.spawn(polling.serve());
}

struct Polling<S: Service> {
    shared: Arc<Shared<S>>,
    home: Arc<EventLoop<S::Call>>,
    ready: Vec<Ready<S::Call>>,
    /// Those that have more bytes than one look has read.
    again: Vec<Ready<S::Call>>,
}

impl<S: Service> Polling<S> {
    async fn serve(mut self) {
        let set = readiness::watch(Set(Arc::clone(&self.home)), Interest::READABLE);
        let set = match set {
            Ok(set) => set,
            Err(error) => {
                tracing::error!(%error, "an event loop cannot watch its connections: they are not served");
                return;
            }
        };
        while let Ok(mut ready) = set.readable().await {
            // Before the first look: what comes after it raises an event of the set.
            ready.clear_ready();
            while self.look_often() {
                // Other tasks of the loop: those that accept, wait or write.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Looks until there is hardly anything to do; `true`: there still is.
    fn look_often(&mut self) -> bool {
        for _ in 0..LOOKS {
            let Some(served) = self.look() else {
                return false;
            };
            if served.handed {
                return true;
            }
            if served.count < BUSY && self.again.is_empty() {
                return false;
            }
        }
        true
    }

    fn look(&mut self) -> Option<Served> {
        self.ready.append(&mut self.again);
        let looked = self.home.poller.ready(&mut self.ready);
        if let Err(error) = looked
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "an event loop cannot look after its connections");
            return None;
        }
        let mut served = Served {
            count: self.ready.len(),
            handed: false,
        };
        let _busy = self.home.enter_reading(&self.shared.alarm);
        for ready in self.ready.drain(..) {
            let serving = Serving {
                shared: &self.shared,
                home: &self.home,
                connection: &ready.connection,
            };
            let attended = serving.attend(ready.ended);
            self.home.read_on();
            match attended {
                Attended::Rests => {}
                Attended::Again => self.again.push(ready),
                Attended::Handed => served.handed = true,
            }
        }
        Some(served)
    }
}

/// What came of one look.
struct Served {
    count: usize,
    /// A task has got something to do.
    handed: bool,
}

/// The set as a descriptor: it is readable when one of its connections is.
struct Set<C: Call>(Arc<EventLoop<C>>);

impl<C: Call> AsRawFd for Set<C> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.poller.epoll.as_fd().as_raw_fd()
    }
}
