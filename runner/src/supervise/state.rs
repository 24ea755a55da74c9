//! The folder of what outlives a process (`state.dir`): ours alone to write, opened without following a link.
//!
//! Mode 0711: a worker under another user reads the copies whose names it is told, and lists nothing.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, fchmod, fstat, fstatvfs, mkdirat,
    openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

const MODE: Mode = Mode::from_raw_mode(0o711);

/// The opened folder.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    dir: OwnedFd,
}

/// Why `state.dir` is not used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused.
    #[error("state.dir {} cannot be used: {cause}", path.display())]
    System { path: PathBuf, cause: io::Error },
    /// Somebody else could change what is in it.
    #[error("state.dir {} cannot be used: {cause}", path.display())]
    Untrusted { path: PathBuf, cause: String },
}

impl StateDir {
    /// Opens the folder, and creates it if need be.
    ///
    /// # Errors
    /// When it cannot be had, or is not ours alone to write.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let system = |cause| StateError::System {
            path: path.to_owned(),
            cause,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(system)?;
        }
        let dir = open_own(CWD, path).map_err(|cause| match cause {
            OwnError::System(cause) => system(cause.into()),
            OwnError::Untrusted(cause) => StateError::Untrusted {
                path: path.to_owned(),
                cause,
            },
        })?;
        let path = path.to_owned();
        Ok(Self { path, dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder in it, and creates it if need be; the same rules hold for it.
    ///
    /// # Errors
    /// When it cannot be had, or is not ours alone to write.
    pub fn folder(&self, name: &str) -> Result<Self, StateError> {
        let path = self.path.join(name);
        match open_own(self.dir.as_fd(), Path::new(name)) {
            Ok(dir) => Ok(Self { path, dir }),
            Err(OwnError::System(cause)) => Err(StateError::System {
                path,
                cause: cause.into(),
            }),
            Err(OwnError::Untrusted(cause)) => Err(StateError::Untrusted { path, cause }),
        }
    }

    /// The content of a file in it.
    ///
    /// # Errors
    /// There is none, it is not ours alone to write, or it has more than `longest` bytes.
    pub fn read(&self, name: &str, longest: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = self.open_own_file(name)?;
        file.take(longest + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > longest {
            true => Err(io::Error::other(format!(
                "it has more than {longest} bytes"
            ))),
            false => Ok(bytes),
        }
    }

    /// A file in it, opened for reading.
    ///
    /// # Errors
    /// There is none, or it is not ours alone to write.
    pub fn open_own_file(&self, name: &str) -> io::Result<fs::File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::empty())?;
        let stat = fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !regular || stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is not a file of ours"));
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(io::Error::other("others may write it"));
        }
        Ok(file.into())
    }

    /// Replaces a file in it as a whole; ours alone to read.
    ///
    /// # Errors
    /// When there is no room, or the system refuses; what was there before is then unchanged.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".{name}.{}", std::process::id());
        let _ = unlinkat(&self.dir, &temporary, AtFlags::empty());
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = openat(&self.dir, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let written = fs::File::from(file)
            .write_all(bytes)
            .and_then(|()| Ok(renameat(&self.dir, &temporary, &self.dir, name)?));
        if written.is_err() {
            let _ = unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        written
    }

    /// Whether libraries in it cannot be opened because it is mounted `noexec`.
    pub fn is_noexec(&self) -> bool {
        fstatvfs(&self.dir).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Whether its path still leads to it.
    pub fn is_in_place(&self) -> bool {
        let there = statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        match (there, fstat(&self.dir)) {
            (Ok(there), Ok(ours)) => (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino),
            _ => false,
        }
    }
}

impl AsFd for StateDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

enum OwnError {
    System(Errno),
    Untrusted(String),
}

impl From<Errno> for OwnError {
    fn from(cause: Errno) -> Self {
        Self::System(cause)
    }
}

fn open_own(parent: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, OwnError> {
    match mkdirat(parent, path, MODE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(cause.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = openat(parent, path, flags, Mode::empty()).map_err(|cause| match cause {
        Errno::LOOP | Errno::NOTDIR => {
            OwnError::Untrusted("it is a link or a file, not a folder".to_owned())
        }
        cause => OwnError::System(cause),
    })?;
    let stat = fstat(&dir)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        let cause = format!("it belongs to user {}, not to us", stat.st_uid);
        return Err(OwnError::Untrusted(cause));
    }
    if stat.st_mode & 0o022 != 0 {
        let mode = stat.st_mode & 0o777;
        let cause = format!("others may write it (mode {mode:03o})");
        return Err(OwnError::Untrusted(cause));
    }
    fchmod(&dir, MODE)?; // the umask may have taken what the worker needs
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_folder_is_created_and_lists_nothing_to_others() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/state");
        let state = StateDir::open(&path).unwrap();
        state.folder("libraries").unwrap();
        for path in [path.clone(), path.join("libraries")] {
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o711);
        }
        assert!(state.is_in_place());
    }

    #[test]
    fn a_link_or_a_folder_that_others_may_write_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let real = place.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = place.path().join("link");
        symlink(&real, &link).unwrap();
        let error = StateDir::open(&link).unwrap_err().to_string();
        assert!(error.contains("it is a link or a file"), "{error}");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o775)).unwrap();
        let error = StateDir::open(&real).unwrap_err().to_string();
        assert!(error.contains("others may write it (mode 775)"), "{error}");
    }
}
