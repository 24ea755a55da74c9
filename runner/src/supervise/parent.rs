//! Notices that the gateway is gone. Never ends anything itself.
//!
//! Gateway: if its master and privileged agent are killed, nobody ends the runner.

use std::fs;
use std::os::fd::OwnedFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

/// Names under which a gateway runs (`comm`).
const GATEWAYS: [&str; 2] = ["nginx", "openresty"];

/// The process whose end is ours.
#[derive(Debug)]
pub(super) struct Parent {
    pid: Option<Pid>,
}

impl Parent {
    /// The parent, if it is a gateway or `always`; a developer's shell may close without ending us.
    pub(super) fn to_follow(always: bool) -> Option<Self> {
        let pid = getppid();
        let name = fs::read_to_string(format!("/proc/{}/comm", Pid::as_raw(pid)));
        let gateway = name.is_ok_and(|name| GATEWAYS.contains(&name.trim()));
        (gateway || always).then_some(Self { pid })
    }

    /// Calls `gone` once, on a thread of its own, when the parent ends.
    ///
    /// An old kernel without pidfd has only [`Parent::is_gone`].
    pub(super) fn watch(&self, gone: impl FnOnce() + Send + 'static) {
        let Some(pidfd) = self.pidfd() else { return };
        let watching = move || {
            let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
            while poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
            gone();
        };
        // Without the thread, the question below still answers every two seconds.
        let _ = thread::Builder::new()
            .name("parent".to_owned())
            .spawn(watching);
    }

    /// Whether somebody else has become our parent.
    pub(super) fn is_gone(&self) -> bool {
        getppid() != self.pid
    }

    fn pidfd(&self) -> Option<OwnedFd> {
        pidfd_open(self.pid?, PidfdFlags::empty()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_is_no_gateway_is_followed_only_on_demand() {
        assert!(Parent::to_follow(false).is_none());
        assert!(!Parent::to_follow(true).unwrap().is_gone());
    }

    #[test]
    fn the_end_of_the_parent_is_noticed() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let parent = Parent {
            pid: Pid::from_raw(child.id() as i32),
        };
        let (tell, told) = std::sync::mpsc::channel();
        parent.watch(move || tell.send(()).unwrap());
        assert!(told.try_recv().is_err());
        drop(child.stdin.take());
        told.recv_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        child.wait().unwrap();
    }
}
