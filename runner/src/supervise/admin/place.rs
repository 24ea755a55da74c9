//! Where admin sockets are: in `state.dir/control`, or beside the gateway's socket when there is no such folder. Their
//! names have the supervisor's process id in them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::config::Config;
use crate::supervise::state::StateDir;

/// The folder in `state.dir`.
const FOLDER: &str = "control";
const SUFFIX: &str = ".sock";
/// Between the name of the gateway's socket and the process id.
const BESIDE: &str = ".control-";

/// The place of one socket.
#[derive(Debug)]
pub struct Place {
    folder: PathBuf,
    name: String,
}

/// A socket that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// Whose.
    pub pid: u32,
}

impl Place {
    /// Where this process listens. Sockets that nobody listens to any more are removed.
    pub fn of_this_process(config: &Config, state: Option<&StateDir>) -> Self {
        let pid = std::process::id();
        let inside = state.and_then(|state| {
            let folder = state.folder(FOLDER);
            folder
                .inspect_err(|error| {
                    tracing::warn!("the admin socket lies beside the other: {error}")
                })
                .ok()
        });
        match inside {
            Some(folder) => {
                remove_dead(folder.path(), "");
                Self {
                    folder: folder.path().to_owned(),
                    name: format!("{pid}{SUFFIX}"),
                }
            }
            None => {
                let (folder, prefix) = beside(&config.socket.file);
                remove_dead(&folder, &prefix);
                Self {
                    name: format!("{prefix}{pid}{SUFFIX}"),
                    folder,
                }
            }
        }
    }

    /// Listens there: for our own user and root.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn bind(&self) -> io::Result<UnixListener> {
        let path = self.path();
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let listener = with_short_path(&path, |short| UnixListener::bind(short))?;
        // Whoever was faster than this is turned away by the user id.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Removes the socket.
    pub fn remove(&self) {
        let _ = fs::remove_file(self.path());
    }
}

/// All sockets of this configuration that somebody listens to.
pub fn find(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    if let Some(state) = &config.state.dir {
        found.extend(list(&state.join(FOLDER), ""));
    }
    let (folder, prefix) = beside(&config.socket.file);
    found.extend(list(&folder, &prefix));
    found.retain(|found| connect(&found.path).is_ok());
    found
}

/// Connects to a socket, however long its path.
///
/// # Errors
/// When nobody listens, or we may not.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |short| UnixStream::connect(short))
}

fn beside(socket: &Path) -> (PathBuf, String) {
    let name = socket.file_name().unwrap_or_default().to_string_lossy();
    let folder = socket.parent().unwrap_or(Path::new("/")).to_owned();
    (folder, format!("{name}{BESIDE}"))
}

fn list(folder: &Path, prefix: &str) -> Vec<Found> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let pid = name.to_str()?.strip_prefix(prefix)?.strip_suffix(SUFFIX)?;
        let pid = pid.parse().ok()?;
        let path = entry.path();
        Some(Found { path, pid })
    });
    found.collect()
}

fn remove_dead(folder: &Path, prefix: &str) {
    for found in list(folder, prefix) {
        let refused = |cause: io::Error| cause.kind() == io::ErrorKind::ConnectionRefused;
        if connect(&found.path).is_err_and(refused) {
            let _ = fs::remove_file(&found.path);
        }
    }
}

/// An address has room for 107 bytes; the folder's descriptor makes any path short.
fn with_short_path<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let folder = open(folder, flags, Mode::empty())?;
    let number = folder.as_fd().as_raw_fd();
    let name = path.file_name().unwrap_or_default();
    with(&Path::new(&format!("/proc/self/fd/{number}")).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_while_somebody_listens_however_long_its_path() {
        let place = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.socket.file = place.path().join("s");
        let long = place.path().join("x".repeat(120));
        config.state.dir = Some(long.clone());
        let state = StateDir::open(&long).unwrap();
        for state in [Some(&state), None] {
            let place = Place::of_this_process(&config, state);
            let listener = place.bind().unwrap();
            let mode = fs::metadata(place.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let pid = std::process::id();
            let path = place.path();
            assert_eq!(find(&config), [Found { path, pid }]);
            drop(listener);
            assert_eq!(find(&config), []);
            let again = Place::of_this_process(&config, state);
            assert!(!again.path().exists(), "nobody listens to it");
        }
    }
}
