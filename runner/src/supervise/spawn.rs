//! One worker as the supervisor sees it: started, told things without ever waiting for it, and ended.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::mpsc::UnboundedSender;

use super::control::message::{FromWorker, Start, ToWorker};
use super::control::{self, Receiver, Sender};
use super::heap::TUNABLES;
use super::output;
use super::socket::SocketId;
use super::supervisor::{Event, WorkerEvent};
use crate::plugins::blame::{self, Ending};
use crate::telemetry::Lines;

/// Where workers live.
#[derive(Debug)]
pub(super) enum Host {
    /// In processes of their own.
    Processes,
    /// In this process: whoever receives the other end of the control socket is the worker.
    Here(mpsc::Sender<UnixStream>),
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    /// Counts the workers of this supervisor.
    pub(super) number: u64,
    /// When it was started.
    pub(super) since: Instant,
    /// Whether it takes orders.
    pub(super) ready: bool,
    /// Whether it was told to accept connections.
    pub(super) serving: bool,
    /// The socket that it accepts on.
    pub(super) socket: SocketId,
    /// Libraries that it has loaded; none of them ever goes.
    pub(super) loaded: usize,
    /// What it shares with us: whose code runs in it.
    page: Option<fs::File>,
    control: Sender,
    outbox: mpsc::Sender<Outgoing>,
    child: Option<Child>,
    over: Cell<bool>,
}

#[derive(Debug)]
struct Outgoing {
    message: ToWorker,
    tail: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// What a new worker is given.
pub(super) struct Outfit {
    pub(super) start: Start,
    /// Which socket it is: see [`Socket::id`](super::socket::Socket::id).
    pub(super) socket: SocketId,
    /// The listening socket.
    pub(super) listener: OwnedFd,
    /// Where its log lines go.
    pub(super) lines: Lines,
    /// Where its events go.
    pub(super) events: UnboundedSender<Event>,
}

impl Worker {
    /// Starts a worker and sends it `Start`.
    ///
    /// To be called on the supervisor's main thread: the worker dies with the thread that started it.
    ///
    /// # Errors
    /// When there is no process, descriptor or thread to be had.
    pub(super) fn start(number: u64, host: &Host, outfit: Outfit) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut descriptors = vec![outfit.listener];
        let mut page = None;
        let child = match host {
            Host::Here(workers) => {
                let gone = |_| io::Error::other("the worker's thread is gone");
                workers.send(theirs).map_err(gone)?;
                None
            }
            Host::Processes => {
                let (log, log_end) = pipe_with(PipeFlags::CLOEXEC)?;
                output::pass_on_log(log, outfit.lines)?;
                let shared = shared_page()?;
                descriptors.extend([log_end, shared.try_clone()?.into()]);
                page = Some(shared);
                Some(spawn("worker", theirs)?)
            }
        };
        let (sender, receiver) = control::split(ours)?;
        let worker = Self {
            number,
            since: Instant::now(),
            ready: false,
            serving: false,
            socket: outfit.socket,
            loaded: 0,
            page,
            outbox: write_messages(sender.clone())?,
            control: sender,
            child,
            over: Cell::new(false),
        };
        worker.watch(receiver, outfit.events)?;
        worker.tell_with(
            ToWorker::Start(Box::new(outfit.start)),
            Vec::new(),
            descriptors,
        );
        Ok(worker)
    }

    /// Sends a message some time soon.
    pub(super) fn tell(&self, message: ToWorker) {
        self.tell_with(message, Vec::new(), Vec::new());
    }

    /// Sends a message with a tail and descriptors some time soon.
    pub(super) fn tell_with(&self, message: ToWorker, tail: Vec<u8>, descriptors: Vec<OwnedFd>) {
        // A worker that is gone is noticed elsewhere.
        let _ = self.outbox.send(Outgoing {
            message,
            tail,
            descriptors,
        });
    }

    /// Whether it is a process of its own, whose end is reported.
    pub(super) fn is_process(&self) -> bool {
        self.child.is_some()
    }

    /// Its process id, or ours if it lives here.
    pub(super) fn pid(&self) -> u32 {
        self.child.as_ref().map_or_else(std::process::id, Child::id)
    }

    /// Whether it was killed or is gone: it answers nothing any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Ends it at once, and everything that third-party code started in it. Never waits.
    pub(super) fn kill(&self) {
        self.over.set(true);
        self.control.close();
        // It is not waited for yet, so the number is still its own.
        if let Some(group) = self.child.as_ref().and_then(pid) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Takes leave of a worker, which is killed if it lives; says how it ended, and whose code ran. Never waits: a process
    /// may take seconds to come to its end after SIGKILL, when the machine or its disk is busy.
    pub(super) fn bury(mut self) -> (String, Ending) {
        self.kill();
        let how = match self.child.as_mut().map(Child::try_wait) {
            None => "its control socket closed".to_owned(),
            Some(Ok(Some(status))) => status.to_string(),
            Some(Ok(None)) => "killed by the supervisor".to_owned(),
            Some(Err(cause)) => cause.to_string(),
        };
        if let Some(child) = self.child {
            reap(child);
        }
        let mut bytes = vec![0; blame::BYTES];
        let read = self.page.map(|page| page.read_exact_at(&mut bytes, 0));
        if !matches!(read, Some(Ok(()))) {
            bytes.clear();
        }
        (how, blame::read(&bytes))
    }

    /// Resident bytes of its process.
    pub(super) fn memory(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        Some(kilobytes << 10)
    }

    /// How long it has lived.
    pub(super) fn lived(&self) -> Duration {
        self.since.elapsed()
    }

    fn watch(&self, receiver: Receiver, events: UnboundedSender<Event>) -> io::Result<()> {
        let number = self.number;
        let report = move |event| events.send(Event::Worker(number, event)).is_ok();
        if let Some(pid) = self.child.as_ref().and_then(pid) {
            let report = report.clone();
            let wait = move || {
                let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while matches!(
                    waitid(WaitId::Pid(pid), ended),
                    Err(rustix::io::Errno::INTR)
                ) {}
                report(WorkerEvent::Ended);
            };
            thread::Builder::new()
                .name("worker end".to_owned())
                .spawn(wait)?;
        }
        let read = move || read_messages(receiver, report);
        thread::Builder::new()
            .name("worker control".to_owned())
            .spawn(read)?;
        Ok(())
    }
}

pub(super) fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Waits for the end of a process on a thread of its own, so that no zombie is left.
fn reap(mut child: Child) {
    if !matches!(child.try_wait(), Ok(Some(_))) {
        let reaping = thread::Builder::new().name("reaper".to_owned());
        // Without a thread to be had it stays a zombie until we end.
        let _ = reaping.spawn(move || child.wait());
    }
}

/// Starts a worker or a probe: the same build as ours, even if the file was replaced meanwhile, in a process group of its
/// own. Its stdin is the control socket; what it prints is logged. It dies with the thread that calls this.
///
/// # Errors
/// When there is no process, descriptor or thread to be had.
pub(super) fn spawn(command: &str, control: UnixStream) -> io::Result<Child> {
    let (prints, prints_end) = pipe_with(PipeFlags::CLOEXEC)?;
    output::log_prints(prints)?;
    let malloc = std::env::var_os(TUNABLES.0).unwrap_or_else(|| TUNABLES.1.into());
    Command::new("/proc/self/exe")
        .env(TUNABLES.0, malloc)
        .arg0("plugin-runner")
        .arg(command)
        .stdin(OwnedFd::from(control))
        .stdout(prints_end.try_clone()?)
        .stderr(prints_end)
        .process_group(0)
        .spawn()
}

/// Memory of a size that nobody can change: we may read it whatever the worker does.
pub(super) fn shared_page() -> io::Result<fs::File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let page = memfd_create("plugin-runner-blame", flags)?;
    ftruncate(&page, blame::BYTES as u64)?;
    fcntl_add_seals(&page, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(page.into())
}

fn write_messages(sender: Sender) -> io::Result<mpsc::Sender<Outgoing>> {
    let (outbox, outgoing) = mpsc::channel::<Outgoing>();
    let write = move || {
        for Outgoing {
            message,
            tail,
            descriptors,
        } in outgoing
        {
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            if let Err(cause) = sender.send_with(&message, &tail, &descriptors) {
                tracing::warn!(cause = %cause, "a message to the worker was lost");
                return sender.close(); // which ends the worker, and brings a new one
            }
        }
    };
    thread::Builder::new()
        .name("worker orders".to_owned())
        .spawn(write)?;
    Ok(outbox)
}

fn read_messages(mut receiver: Receiver, report: impl Fn(WorkerEvent) -> bool) {
    loop {
        let event = match receiver.receive::<FromWorker>() {
            Ok(Some(received)) => WorkerEvent::Says(received.message, received.tail),
            Ok(None) => WorkerEvent::Disconnected,
            Err(cause) => {
                tracing::debug!(cause = %cause, "the worker's control socket failed");
                WorkerEvent::Disconnected
            }
        };
        let last = matches!(event, WorkerEvent::Disconnected);
        if !report(event) || last {
            return;
        }
    }
}
