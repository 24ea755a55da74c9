//! What lies in the plugins folder at one moment. Opens no library.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, fstat, open, statat};
use rustix::io::Errno;

use super::fingerprint::{Fingerprint, Trust, is_file};

/// The libraries in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Device and inode of the folder: another value means that it was replaced.
    pub folder: (u64, u64),
    /// Path of each library and its state.
    pub files: BTreeMap<PathBuf, Fingerprint>,
}

/// Why a folder's content does not count. What was loaded from it earlier goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// It cannot be read.
    #[error("plugins folder {} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: Errno },
    /// The state of a file in it cannot be read. Leaving the file out would look like its removal.
    #[error("nothing is taken up from the plugins folder: {} cannot be looked at: {cause}", path.display())]
    File { path: PathBuf, cause: Errno },
    /// Others could put code there.
    #[error("plugins folder {} is refused: {cause}", path.display())]
    Untrusted { path: PathBuf, cause: String },
}

impl FolderError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "create the folder, or correct plugins.dir; it is looked at again every 2 s"
            }
            Self::File { .. } => {
                "make what it leads to accessible for the runner's user, or remove it"
            }
            Self::Untrusted { .. } => Trust::HINT,
        }
    }
}

/// Looks at every `.so` file of a folder, symbolic links followed.
///
/// # Errors
/// When the folder or the state of one file in it cannot be read, or it is not to be trusted.
pub fn scan(path: &Path, trust: Trust) -> Result<Scan, FolderError> {
    let unreadable = |cause| FolderError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(path, flags, Mode::empty()).map_err(unreadable)?;
    let stat = fstat(&folder).map_err(unreadable)?;
    if let Some(cause) = trust.fault(&stat) {
        let path = path.to_owned();
        return Err(FolderError::Untrusted { path, cause });
    }
    let mut files = BTreeMap::new();
    for entry in Dir::read_from(&folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_bytes();
        if name.starts_with(b".") || !name.ends_with(b".so") {
            continue;
        }
        let file = path.join(OsStr::from_bytes(name));
        match state(statat(&folder, entry.file_name(), AtFlags::empty())) {
            Ok(None) => {}
            Ok(Some(state)) => drop(files.insert(file, state)),
            Err(cause) => return Err(FolderError::File { path: file, cause }),
        }
    }
    Ok(Scan {
        folder: (stat.st_dev, stat.st_ino),
        files,
    })
}

fn state(file: Result<Stat, Errno>) -> Result<Option<Fingerprint>, Errno> {
    match file {
        Ok(stat) if is_file(&stat) => Ok(Some(Fingerprint::of(&stat))),
        // A folder of that name; a link to nowhere; gone since it was listed.
        Ok(_) | Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(cause) => Err(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const TRUST: Trust = Trust {
        root: false,
        allow_writable: false,
    };

    #[test]
    fn only_library_files_count_and_links_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.so", ".hidden.so", "b.so.tmp", "README"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        fs::create_dir(folder.path().join("dir.so")).unwrap();
        symlink("a.so", folder.path().join("link.so")).unwrap();
        symlink("nowhere", folder.path().join("broken.so")).unwrap();
        let files = scan(folder.path(), TRUST).unwrap().files;
        let names: Vec<_> = files.keys().filter_map(|f| f.file_name()).collect();
        assert_eq!(names, ["a.so", "link.so"]);
    }

    #[test]
    fn a_changed_target_changes_the_fingerprint_of_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::NamedTempFile::new().unwrap();
        symlink(elsewhere.path(), folder.path().join("link.so")).unwrap();
        let before = scan(folder.path(), TRUST).unwrap();
        fs::write(elsewhere.path(), "longer").unwrap();
        assert_ne!(scan(folder.path(), TRUST).unwrap(), before);
    }

    #[test]
    fn a_folder_that_everybody_may_write_is_refused_with_the_key_that_allows_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = scan(folder.path(), TRUST).unwrap_err();
        assert!(error.to_string().contains("everybody may write it"));
        assert!(error.hint().contains("plugins.allow_writable"));
        let allowed = Trust {
            allow_writable: true,
            ..TRUST
        };
        assert!(scan(folder.path(), allowed).is_ok());
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = scan(Path::new("/nowhere/plugins"), TRUST).unwrap_err();
        assert!(error.to_string().contains("/nowhere/plugins"), "{error}");
    }
}
