//! The socket that the gateway connects to: taken over without a moment in which a connect fails, and left without
//! touching a successor's. Accepts nothing: the worker does, and connections wait in the backlog until then.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chmod, chownat};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

use super::accounts::{self, AccountError};
use crate::config;

/// Connections that may wait while no worker accepts. The kernel's own limit (somaxconn, mostly 4096) applies too.
const BACKLOG: i32 = 4096;
/// Bytes that fit into a socket address.
const MAX_PATH: usize = 107;

/// Device and inode of a socket's file.
pub(super) type SocketId = (u64, u64);

/// Whose the path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Still ours.
    Ours,
    /// Nothing is there.
    Gone,
    /// Something else is there.
    Replaced,
}

/// The listening socket. Dropping it closes it, and leaves its path.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    inode: SocketId,
    listening: OwnedFd,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// The system's limit.
    #[error("socket {}: the path has {length} bytes, the system allows {MAX_PATH}; choose a shorter one in socket.file", path.display())]
    TooLong { path: PathBuf, length: usize },
    /// Something else lies there.
    #[error("socket {}: there is a file that is not a socket; remove it, or choose another path in socket.file", path.display())]
    NotSocket { path: PathBuf },
    /// An unknown owner or group.
    #[error("socket {}: {cause}", path.display())]
    Account { path: PathBuf, cause: AccountError },
    /// The system refused a step.
    #[error("socket {}: cannot {step}: {cause}; {hint}", path.display())]
    System {
        path: PathBuf,
        step: &'static str,
        cause: io::Error,
        hint: &'static str,
    },
}

impl Socket {
    /// Listens under a temporary name, then renames it over the path: whoever connects reaches either the earlier
    /// runner or us.
    ///
    /// # Errors
    /// When any step fails; what was at the path is then untouched.
    pub(super) fn listen(config: &config::Socket) -> Result<Self, SocketError> {
        let path = &config.file;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let temporary = folder.join(format!(".{}", std::process::id()));
        check_path(path, &temporary)?;
        let made = prepare(config, &temporary).and_then(|listening| {
            // Before the rename: a moment later another runner's may be at the path.
            let inode = inode(&temporary).map_err(failed(path, "look at it"))?;
            fs::rename(&temporary, path).map_err(failed(path, "rename into place"))?;
            Ok((listening, inode))
        });
        if made.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        let (listening, inode) = made?;
        Ok(Self {
            path: path.clone(),
            inode,
            listening,
        })
    }

    /// The path that the gateway connects to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells it from every other socket.
    pub(super) fn id(&self) -> SocketId {
        self.inode
    }

    /// Whose the path is now.
    pub(super) fn standing(&self) -> Standing {
        match inode(&self.path) {
            Ok(inode) if inode == self.inode => Standing::Ours,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Standing::Gone,
            _ => Standing::Replaced,
        }
    }

    /// Removes the path if it is still ours: after a reload of the gateway it is our successor's.
    pub(super) fn unlink(&self) {
        if self.standing() == Standing::Ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listening.as_fd()
    }
}

fn check_path(path: &Path, temporary: &Path) -> Result<(), SocketError> {
    let length = path.as_os_str().len().max(temporary.as_os_str().len());
    let path = path.to_owned();
    if length > MAX_PATH {
        return Err(SocketError::TooLong { path, length });
    }
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.file_type().is_socket() => Err(SocketError::NotSocket { path }),
        _ => Ok(()),
    }
}

fn prepare(config: &config::Socket, temporary: &Path) -> Result<OwnedFd, SocketError> {
    let path = &config.file;
    let account = |cause| SocketError::Account {
        path: path.clone(),
        cause,
    };
    let owner = config.owner.as_deref().map(accounts::user).transpose();
    let owner = owner.map_err(account)?.map(|user| Uid::from_raw(user.uid));
    let group = config.group.as_deref().map(accounts::group).transpose();
    let group = group.map_err(account)?.map(Gid::from_raw);

    // What lies there is of a process that had our number and is gone.
    let _ = fs::remove_file(temporary);
    let unix = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listening = socket_with(AddressFamily::UNIX, SocketType::STREAM, unix, None);
    let listening = listening.map_err(failed(path, "make a socket"))?;
    let address = SocketAddrUnix::new(temporary).map_err(failed(path, "use the path"))?;
    bind(&listening, &address).map_err(failed(path, "bind"))?;
    if owner.is_some() || group.is_some() {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(CWD, temporary, owner, group, flags).map_err(failed(path, "change its owner"))?;
    }
    // After the change of owner, and always: the umask may be anything.
    chmod(temporary, Mode::from_raw_mode(config.mode)).map_err(failed(path, "change its mode"))?;
    listen(&listening, BACKLOG).map_err(failed(path, "listen"))?;
    Ok(listening)
}

fn failed<E: Into<io::Error>>(path: &Path, step: &'static str) -> impl FnOnce(E) -> SocketError {
    let path = path.to_owned();
    move |cause| {
        let cause = cause.into();
        let hint = match cause.kind() {
            io::ErrorKind::NotFound => "create its folder first, or correct socket.file",
            io::ErrorKind::PermissionDenied => {
                "start as a user who may write its folder, or correct socket.file, socket.owner and socket.group"
            }
            io::ErrorKind::ReadOnlyFilesystem => "choose a writable folder in socket.file",
            _ => "correct socket.file, or free what is used up",
        };
        SocketError::System {
            path,
            step,
            cause,
            hint,
        }
    }
}

fn inode(path: &Path) -> io::Result<SocketId> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn at(file: PathBuf) -> config::Socket {
        config::Socket {
            file,
            ..config::Socket::default()
        }
    }

    #[test]
    fn connects_wait_in_the_backlog_and_the_mode_is_the_configured_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = Socket::listen(&at(path.clone())).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o766);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "a temporary name was left: {left:?}");
    }

    #[test]
    fn a_takeover_fails_no_connect_and_the_old_runner_leaves_the_new_path_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let stop = AtomicBool::new(false);
        let first = Socket::listen(&at(path.clone())).unwrap();
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let mut connections = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A full backlog would be another failure than the one looked for.
                    match UnixStream::connect(&path) {
                        Ok(_) => connections += 1,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => panic!("after {connections}: {error}"),
                    }
                }
                connections
            });
            let mut serving = first;
            for _ in 0..200 {
                let next = Socket::listen(&at(path.clone())).unwrap();
                serving.unlink();
                // Who has connected to the old one is not the question here.
                let backlog = UnixListener::from(serving.listening.try_clone().unwrap());
                backlog.set_nonblocking(true).unwrap();
                while backlog.accept().is_ok() {}
                serving = next;
            }
            stop.store(true, Ordering::Relaxed);
            connecting.join().unwrap();
            assert!(path.exists());
            serving.unlink();
            assert!(!path.exists());
        });
    }

    #[test]
    fn faults_name_the_path_the_cause_and_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "precious").unwrap();
        let cases = [
            (file.clone(), "not a socket"),
            (folder.path().join("a/b"), "create its folder first"),
            (folder.path().join("x".repeat(120)), "the system allows 107"),
        ];
        for (path, wanted) in cases {
            let error = Socket::listen(&at(path.clone())).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    }
}
