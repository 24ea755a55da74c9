//! What workers and probes give up before any plugin code runs: root, ways to get it back, memory without bound, a life
//! longer than the supervisor's. Never gives anything back.

use std::ffi::CStr;
use std::fs;
use std::io;

use anyhow::Context;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use rustix::thread::{
    Gid, Uid, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::accounts::{self, AccountError, Identity};
use super::control::message::Start;

/// How likely the kernel ends the worker when memory runs out (-1000 never … 1000 first): before the gateway.
const OOM_SCORE: &str = "500";
/// Open files of a worker, if they may be so many. More than any gateway has connections; a plugin that closes all numbers
/// one by one still gets there.
const FILES: u64 = 65_536;

/// Third-party code runs as this user if nothing else is configured.
const DEFAULT_USER: &str = "nobody";

/// Who the worker has to become, or `None` if it stays who we are.
///
/// # Errors
/// When `worker.user` is no user, or is another user and we are not root.
pub(super) fn identity(user: Option<&str>) -> Result<Option<Identity>, IdentityError> {
    let ours = rustix::process::geteuid().as_raw();
    let identity = match user {
        None if ours != 0 => return Ok(None),
        None => accounts::user(DEFAULT_USER)?,
        Some(name) => accounts::user(name)?,
    };
    match ours {
        _ if identity.uid == ours => Ok(None),
        0 => Ok(Some(identity)),
        _ => Err(IdentityError::NotRoot(identity.uid)),
    }
}

/// Why `worker.user` cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    /// No such user.
    #[error("worker.user: {0}")]
    Unknown(#[from] AccountError),
    /// Only root can become somebody else.
    #[error(
        "worker.user: only root can start a worker as user {0}; remove the key or start as root"
    )]
    NotRoot(u32),
}

/// Root, new privileges and unbounded memory are given up for good; the supervisor's end is ours. `name` is what `ps`
/// shows.
///
/// Before any thread is started and any plugin code runs.
///
/// # Errors
/// When something cannot be given up. The process must then end.
pub(super) fn give_up(start: &Start, name: &CStr) -> anyhow::Result<()> {
    limit(start.config.worker.memory_limit).context("cannot limit the process")?;
    if let Some(identity) = start.identity {
        let (uid, gid) = (identity.uid, identity.gid);
        become_user(identity).with_context(|| format!("cannot become user {uid}, group {gid}"))?;
    }
    die_with(start.supervisor).context("cannot follow the supervisor")?;
    // Otherwise `ps` and `top` show the name of the link that we were started by.
    let _ = rustix::thread::set_name(name);
    Ok(())
}

/// Becomes that user for good, without groups.
///
/// The system calls behind this change the calling *thread* only: call it while the process has no other thread.
///
/// # Errors
/// When the kernel refuses, or threads exist. The process must then end.
pub(super) fn become_user(identity: Identity) -> io::Result<()> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let cause = format!("{threads} threads run where only one may");
        return Err(io::Error::other(cause));
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    if identity.uid != 0 && set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok() {
        return Err(io::Error::other("root came back after it was given up"));
    }
    Ok(())
}

/// Makes the kernel end this process when the supervisor's main thread ends.
///
/// After [`become_user`], because a change of user clears it.
///
/// # Errors
/// When the supervisor is gone already.
fn die_with(supervisor: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match Pid::as_raw(getppid()) as u32 {
        parent if parent == supervisor => Ok(()),
        _ => Err(io::Error::other("the supervisor ended meanwhile")),
    }
}

/// Limits what third-party code can do to the machine. Before [`become_user`]: afterwards /proc/self is not ours.
///
/// # Errors
/// When a limit cannot be set. That the kernel's preference cannot be changed is no error.
fn limit(memory: Option<u64>) -> io::Result<()> {
    // A container may forbid this; the worker is no worse for it.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    set_no_new_privs(true)?;
    // A core dump delays the end of the process, and with it the next worker. One byte is too little for any dump, and
    // unlike none it also counts where dumps go to a program (core(5)).
    let none = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    setrlimit(Resource::Core, none)?;
    open_more_files()?;
    if memory.is_some() {
        let limit = Rlimit {
            current: memory,
            maximum: memory,
        };
        setrlimit(Resource::Data, limit)?;
    }
    Ok(())
}

/// Raises the limit of open files as far as it may be: a connection needs one.
fn open_more_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(FILES).min(FILES);
    if limit.current.is_some_and(|current| current < most) {
        let current = Some(most);
        setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_must_be_asked_for() {
        if !rustix::process::geteuid().is_root() {
            assert!(identity(None).unwrap().is_none());
            assert!(identity(Some("root")).is_err());
            return;
        }
        assert_ne!(identity(None).unwrap().unwrap().uid, 0);
        assert_eq!(identity(Some("root")).unwrap(), None);
    }

    #[test]
    fn a_process_with_threads_cannot_half_change_its_user() {
        // The test harness runs this on a thread of its own.
        let error = become_user(Identity { uid: 1, gid: 1 }).unwrap_err();
        assert!(error.to_string().contains("threads run"), "{error}");
    }
}
