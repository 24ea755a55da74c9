//! Whether another user can get to a path of ours: a hint for people, never a decision about trust.

use std::path::{Path, PathBuf};

use rustix::fs::stat;

/// The first folder above `path` that a user who is neither its owner nor in its group may not pass.
pub(super) fn closed_folder(path: &Path) -> Option<PathBuf> {
    let mut above: Vec<_> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = |folder: &&Path| stat(*folder).is_ok_and(|stat| stat.st_mode & 0o001 == 0);
    above.into_iter().find(closed).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_outermost_closed_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let mode = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(place.path(), permissions).unwrap();
        };
        let inner = place.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        mode(0o711);
        let above = closed_folder(&inner.join("s")); // of the machine, if any
        mode(0o700);
        let wanted = above.unwrap_or_else(|| place.path().to_owned());
        assert_eq!(closed_folder(&inner.join("s")), Some(wanted));
        mode(0o711);
        assert_ne!(
            closed_folder(&inner.join("s")).as_deref(),
            Some(place.path())
        );
    }
}
