//! One probe process: started, asked, and killed as a whole when dropped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Groups;
use crate::supervise::control::{self, Received, Receiver, Sender};
use crate::supervise::{output, spawn};
use crate::telemetry::Lines;

/// How long a probe that closed its socket may take to end.
const LAST: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::supervise) enum Trouble {
    /// Its process ended by itself.
    Ended(ExitStatus),
    /// Somebody killed it: the kernel, when memory ran out.
    Killed,
    /// No answer within this time.
    Late(Duration),
    /// The system refused something.
    System(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(cause: io::Error) -> Self {
        Self::System(cause)
    }
}

/// A living probe.
pub(in crate::supervise) struct Child {
    process: Process,
    /// Readable once the process has ended.
    end: OwnedFd,
    sender: Sender,
    receiver: Receiver,
    deadline: Duration,
    /// Goes to it with its first order.
    log: Option<OwnedFd>,
}

/// The process and all that it starts.
struct Process {
    leader: std::process::Child,
    group: Pid,
    groups: Groups,
}

impl Child {
    /// Starts one with this hidden subcommand; each answer may take `deadline`.
    pub(in crate::supervise) fn start(
        command: &str,
        groups: &Groups,
        lines: &Lines,
        deadline: Duration,
    ) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        // Whoever does not read what we say is as late as who does not answer.
        ours.set_write_timeout(Some(deadline))?;
        ours.set_read_timeout(Some(deadline))?;
        let (log, log_end) = pipe_with(PipeFlags::CLOEXEC)?;
        output::pass_on_log(log, lines.clone())?;
        let process = Process::start(command, theirs, groups)?;
        let (sender, receiver) = control::split(ours)?;
        Ok(Self {
            end: pidfd_open(process.group, PidfdFlags::empty())?,
            process,
            sender,
            receiver,
            deadline,
            log: Some(log_end),
        })
    }

    /// Says what to do first; the pipe for its log comes before the other descriptors. Once.
    pub(in crate::supervise) fn order(
        &mut self,
        order: &impl Serialize,
        others: &[BorrowedFd<'_>],
    ) -> Result<(), Trouble> {
        let log = self.log.take();
        let log = log.iter().map(AsFd::as_fd);
        let descriptors: Vec<_> = log.chain(others.iter().copied()).collect();
        let sent = self.sender.send_with(order, &[], &descriptors);
        self.sent(sent)
    }

    /// Asks something.
    pub(in crate::supervise) fn tell(
        &mut self,
        message: &impl Serialize,
        tail: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Trouble> {
        let sent = self.sender.send_with(message, tail, descriptors);
        self.sent(sent)
    }

    /// The next message.
    pub(in crate::supervise) fn next<M: DeserializeOwned>(
        &mut self,
    ) -> Result<Received<M>, Trouble> {
        // Both, because a process that it has forked may keep the socket open after its end.
        let ended = self.wait_for(&[self.receiver.as_fd(), self.end.as_fd()], self.deadline)?;
        if ended == 1 {
            return Err(self.ended());
        }
        match self.receiver.receive() {
            Ok(Some(received)) => Ok(received),
            Ok(None) => Err(self.ended()),
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => Err(self.ended()),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                Err(Trouble::Late(self.deadline))
            }
            Err(cause) => Err(cause.into()),
        }
    }

    fn sent(&mut self, sent: io::Result<()>) -> Result<(), Trouble> {
        match sent {
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Err(self.ended()),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                Err(Trouble::Late(self.deadline))
            }
            sent => Ok(sent?),
        }
    }

    /// Which of these is readable first.
    fn wait_for(&self, these: &[BorrowedFd<'_>], within: Duration) -> Result<usize, Trouble> {
        let until = Instant::now() + within;
        loop {
            let mut polled: Vec<_> = these
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
                .collect();
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            match poll(&mut polled, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(cause) => return Err(Trouble::System(cause.into())),
                Ok(_) => {}
            }
            let ready = polled.iter().position(|fd| !fd.revents().is_empty());
            return ready.ok_or(Trouble::Late(within));
        }
    }

    /// How it ended, now that it says nothing any more.
    fn ended(&mut self) -> Trouble {
        if let Err(trouble) = self.wait_for(&[self.end.as_fd()], LAST) {
            return trouble;
        }
        match self.process.leader.wait() {
            Ok(status) if status.signal() == Some(Signal::KILL.as_raw()) => Trouble::Killed,
            Ok(status) => Trouble::Ended(status),
            Err(cause) => cause.into(),
        }
    }
}

impl Process {
    fn start(command: &str, control: UnixStream, groups: &Groups) -> io::Result<Self> {
        // Before the lock is free again, so that whoever ends all probes ends this one too.
        let mut living = groups.lock().unwrap_or_else(PoisonError::into_inner);
        let leader = spawn::spawn(command, control)?;
        let group = spawn::pid(&leader).ok_or_else(|| io::Error::other("it has no number"))?;
        living.insert(group);
        Ok(Self {
            leader,
            group,
            groups: Groups::clone(groups),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut living = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        // While children of it live, the number of their group is nobody else's.
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.leader.wait();
        living.remove(&self.group);
    }
}
