//! Follows the supervisor's orders. Loads begin in order, one after the other unless one takes long; this thread never
//! waits for author code.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::assigner::Assigner;
use super::set_level;
use crate::supervise::control::message::{FromWorker, ToWorker};
use crate::supervise::control::{Received, Receiver, Sender};
use crate::supervise::heap;
use crate::supervise::workshop::{Library, LoadedPlugin, Refusal, Served, Workshop};

/// How long the next library waits for the one before it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Without an order for this long, what loading took is given back.
const QUIET: Duration = Duration::from_secs(1);

/// Somebody who follows orders.
pub(super) struct Orders {
    workshop: Arc<dyn Workshop>,
    listener: Option<OwnedFd>,
    assigner: Arc<Assigner>,
    sender: Sender,
    loader: mpsc::Sender<LoaderOrder>,
}

enum LoaderOrder {
    Load(Library),
    LoadOlder(Library),
    Unload(PathBuf),
    Forbid(u64),
}

impl Orders {
    /// Starts the loader thread.
    pub(super) fn new(
        workshop: Arc<dyn Workshop>,
        listener: OwnedFd,
        assigner: Arc<Assigner>,
        sender: Sender,
    ) -> io::Result<Self> {
        let (loader, orders) = mpsc::channel();
        let (workshop_too, answers) = (Arc::clone(&workshop), sender.clone());
        let loading = move || load_in_order(&orders, &workshop_too, &answers);
        thread::Builder::new()
            .name("loader".to_owned())
            .spawn(loading)?;
        Ok(Self {
            workshop,
            listener: Some(listener),
            assigner,
            sender,
            loader,
        })
    }

    /// Until the supervisor closes the socket.
    pub(super) fn follow(mut self, mut receiver: Receiver) -> io::Result<()> {
        while let Some(received) = receiver.receive()? {
            self.follow_one(received)?;
        }
        Ok(())
    }

    fn follow_one(&mut self, received: Received<ToWorker>) -> io::Result<()> {
        match received.message {
            ToWorker::Start(_) => return Err(io::Error::other("a second `Start`")),
            ToWorker::Load(library) => {
                self.load(LoaderOrder::Load, library, received.descriptors);
            }
            ToWorker::LoadOlder(library) => {
                self.load(LoaderOrder::LoadOlder, library, received.descriptors);
            }
            ToWorker::Stays { conf, on } => self.workshop.stays(conf, on),
            ToWorker::Unload(file) => self.tell_loader(LoaderOrder::Unload(file)),
            ToWorker::Forbid { generation } => self.tell_loader(LoaderOrder::Forbid(generation)),
            ToWorker::Conf { token, sequence } => {
                self.workshop.conf(token, received.tail);
                if let Some(sequence) = sequence {
                    self.sender.send(&FromWorker::Known { sequence })?;
                }
            }
            ToWorker::Bindings => match serde_json::from_slice(&received.tail) {
                Ok(bindings) => self.workshop.bind(bindings),
                Err(error) => return Err(io::Error::other(error)),
            },
            ToWorker::Token { sequence, token } => self.assigner.answered(sequence, token),
            ToWorker::LogLevel(level) => set_level(self.workshop.as_ref(), level),
            ToWorker::Report {
                sequence,
                described,
            } => self.beside("report", move |workshop, sender| {
                let report = workshop.report(described);
                let _ = sender.send(&FromWorker::Report { sequence, report });
            })?,
            ToWorker::Serve { served, settle } => {
                let states = received.descriptors.into_iter().next();
                self.serve(served, settle, states)?;
            }
            ToWorker::ExportStates => {
                let to = descriptor(received.descriptors)?;
                self.beside("states", move |workshop, _| workshop.export_states(to))?;
            }
            ToWorker::Adopt => {
                let from = descriptor(received.descriptors)?;
                self.workshop.adopt(from)?;
            }
            ToWorker::HandOver { within } => {
                let to = descriptor(received.descriptors)?;
                let listener = self.listener.take();
                self.beside("hand over", move |workshop, sender| {
                    let handed = workshop.hand_over(to, listener, within);
                    let _ = sender.send(&FromWorker::HandedOver(handed));
                })?;
            }
            ToWorker::Pulse => {
                let stuck_threads = self.workshop.stuck_threads();
                self.sender.send(&FromWorker::Pulse { stuck_threads })?;
            }
            ToWorker::Drain { within } => self.drain(within)?,
        }
        Ok(())
    }

    fn load(&self, order: fn(Library) -> LoaderOrder, mut library: Library, memory: Vec<OwnedFd>) {
        if let Some(memory) = memory.into_iter().next() {
            // Never closed: the C library takes the same path for the same object, and numbers are used again.
            library.path = format!("/proc/self/fd/{}", memory.into_raw_fd()).into();
        }
        self.tell_loader(order(library));
    }

    fn tell_loader(&self, order: LoaderOrder) {
        // The loader ends only with us.
        let _ = self.loader.send(order);
    }

    /// Without the means to serve, the worker ends, and another one has its turn.
    fn serve(
        &mut self,
        served: Served,
        settle: Duration,
        states: Option<OwnedFd>,
    ) -> io::Result<()> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        self.beside("serve", move |workshop, sender| {
            match workshop.serve(listener, &served, settle, states) {
                Ok(()) => drop(sender.send(&FromWorker::Serving)),
                Err(cause) => {
                    tracing::error!(cause = %cause, "the worker cannot serve");
                    sender.close();
                }
            }
        })
    }

    /// On a thread of its own: calls in flight may still need a token.
    fn drain(&self, within: Duration) -> io::Result<()> {
        // Without an order to serve there will be no server to wait for.
        let within = match self.listener {
            Some(_) => Duration::ZERO,
            None => within,
        };
        self.beside("drain", move |workshop, sender| {
            workshop.drain(within);
            let _ = sender.send(&FromWorker::Drained);
        })
    }

    /// Does something that takes time on a thread of its own.
    fn beside(
        &self,
        name: &str,
        job: impl FnOnce(&dyn Workshop, &Sender) + Send + 'static,
    ) -> io::Result<()> {
        let (workshop, sender) = (Arc::clone(&self.workshop), self.sender.clone());
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || job(workshop.as_ref(), &sender))?;
        Ok(())
    }
}

fn descriptor(descriptors: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    let first = descriptors.into_iter().next();
    first.ok_or_else(|| io::Error::other("an order came without its descriptor"))
}

fn load_in_order(
    orders: &mpsc::Receiver<LoaderOrder>,
    workshop: &Arc<dyn Workshop>,
    sender: &Sender,
) {
    let mut quiet = true;
    loop {
        let order = if quiet {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(QUIET)
        };
        quiet = order.is_err();
        let order = match order {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => {
                heap::give_back();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match order {
            LoaderOrder::Load(library) => {
                load_beside(library, <dyn Workshop>::load, workshop, sender);
            }
            LoaderOrder::LoadOlder(library) => {
                load_beside(library, <dyn Workshop>::load_older, workshop, sender);
            }
            LoaderOrder::Forbid(generation) => {
                let forbidden = catch_unwind(AssertUnwindSafe(|| workshop.forbid(generation)));
                if forbidden.is_err() {
                    tracing::error!(generation, "the runner panicked while it took a build away");
                }
            }
            LoaderOrder::Unload(file) => {
                let unloaded = catch_unwind(AssertUnwindSafe(|| workshop.unload(&file)));
                if unloaded.is_err() {
                    tracing::error!("the runner panicked while it unloaded {}", file.display());
                }
            }
        }
    }
}

/// One of the ways to load.
type Load = fn(&dyn Workshop, &Library) -> Result<Vec<LoadedPlugin>, Refusal>;

/// On a thread of its own: one that never comes back holds up nobody else.
fn load_beside(library: Library, how: Load, workshop: &Arc<dyn Workshop>, sender: &Sender) {
    let (done, is_done) = mpsc::channel::<()>();
    let (inside, answers) = (Arc::clone(workshop), sender.clone());
    let generation = library.generation;
    let loading = move || {
        // If nobody listens any more, the process is about to end.
        let _ = answers.send(&load(inside.as_ref(), how, &library));
        drop(done);
    };
    let thread = thread::Builder::new().name("load".to_owned());
    match thread.spawn(loading) {
        Ok(_) => drop(is_done.recv_timeout(PATIENCE)),
        Err(cause) => {
            let refusal = Refusal {
                cause: format!("there is no thread to load it on: {cause}"),
                hint: None,
            };
            let _ = sender.send(&FromWorker::Refused {
                generation,
                refusal,
            });
        }
    }
}

fn load(workshop: &dyn Workshop, how: Load, library: &Library) -> FromWorker {
    let generation = library.generation;
    // A load without an answer would keep the supervisor waiting.
    let loaded = catch_unwind(AssertUnwindSafe(|| how(workshop, library)));
    let loaded = loaded.unwrap_or_else(|_| {
        Err(Refusal {
            cause: "the runner panicked while it loaded it".to_owned(),
            hint: Some("the panic is in the log; please report it".to_owned()),
        })
    });
    match loaded {
        Ok(plugins) => FromWorker::Loaded {
            generation,
            plugins,
        },
        Err(refusal) => FromWorker::Refused {
            generation,
            refusal,
        },
    }
}
