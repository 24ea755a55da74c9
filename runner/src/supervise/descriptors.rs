//! Keeps the descriptors we inherited away from our children, and a control socket away from third-party code.

#![expect(unsafe_code, reason = "close_range is not wrapped by a safe crate")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that are enough for anybody: some programs that a plugin may start look at each number up to the limit.
const MANY: u64 = 1 << 20;

/// Marks every inherited descriptor but stdin, stdout and stderr as close-on-exec.
///
/// The gateway leaks some of its own; a child of ours that held one of them would keep the gateway waiting for ever.
///
/// # Errors
/// When the kernel is older than 5.11, or a sandbox forbids the call.
pub(super) fn close_on_exec() -> io::Result<()> {
    // The raw call, because older C libraries lack the wrapper.
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC takes three integers, touches no memory of ours and closes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Raises the soft limit of open files to the hard one: a service usually starts with 1,024, and every connection of the
/// gateway is one. Workers and probes inherit it.
///
/// # Errors
/// When the system refuses; the limit is as it was.
pub(super) fn allow_many() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(MANY).min(MANY);
    if limit.current.is_none_or(|current| current >= maximum) {
        return Ok(());
    }
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(maximum),
            ..limit
        },
    )?)
}

/// The control socket that a worker or probe has as its stdin. stdin becomes /dev/null, so that third-party code never
/// reads what is meant for us.
///
/// # Errors
/// When the system refuses.
pub(super) fn take_stdin() -> io::Result<OwnedFd> {
    let stdin = io::stdin();
    let ours = rustix::io::fcntl_dupfd_cloexec(stdin.as_fd(), 3)?;
    let null = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

    #[test]
    fn an_inherited_descriptor_does_not_reach_a_child() {
        let inherited = std::fs::File::open("/dev/null").unwrap();
        fcntl_setfd(inherited.as_fd(), FdFlags::empty()).unwrap();
        super::close_on_exec().unwrap();
        assert_eq!(fcntl_getfd(inherited.as_fd()).unwrap(), FdFlags::CLOEXEC);
    }
}
