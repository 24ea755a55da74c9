//! `plugin-runner new`: the crate of a plugin that compiles, passes its own test and serves, as a place to start from.
//! Writes into the crate's folder only, and into none that is there already.

mod name; // what a plugin can be called
mod phases; // the code of each phase
mod render; // the files of the crate
mod source; // where the crate takes plugin-api from

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use name::{BadName, SHIPPED};
pub use phases::Phase;
pub use render::File;
pub use source::{Api, BadSource};

/// What to make.
#[derive(Debug)]
pub struct Order {
    /// Name of the plugin, its package and its folder.
    pub name: String,
    /// The phases it has; none: `access`.
    pub phases: Vec<Phase>,
    /// Where it takes plugin-api from.
    pub api: Api,
    /// The folder in which the crate's folder is made.
    pub parent: PathBuf,
}

/// Why there is no crate.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// A plugin cannot be called this.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Something of that name is there already.
    #[error("{} is there already: nothing was written", .0.display())]
    Exists(PathBuf),
    /// The system refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the crate and returns its folder. If it cannot be written whole, nothing of it stays.
///
/// # Errors
/// The name is none for a plugin, the folder exists, or it cannot be written.
pub fn create(order: &Order) -> Result<PathBuf, NewError> {
    name::check(&order.name)?;
    let folder = order.parent.join(&order.name);
    let nested = in_a_package(&order.parent);
    // Fails for anything of that name, also a link to nowhere.
    fs::create_dir(&folder).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => NewError::Exists(folder.clone()),
        _ => NewError::Write {
            path: folder.clone(),
            source,
        },
    })?;
    let written = write(&folder, &render::files(order, nested));
    written.inspect_err(|_| {
        // What cannot be removed either is what the error is about.
        let _ = fs::remove_dir_all(&folder);
    })?;
    Ok(folder)
}

fn write(folder: &Path, files: &[File]) -> Result<(), NewError> {
    for file in files {
        let path = folder.join(file.path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| fs::write(&path, &file.text));
        written.map_err(|source| NewError::Write { path, source })?;
    }
    Ok(())
}

/// Whether cargo would take the crate for a part of what lies above it.
fn in_a_package(parent: &Path) -> bool {
    let parent = parent
        .canonicalize()
        .unwrap_or_else(|_| parent.to_path_buf());
    parent
        .ancestors()
        .any(|above| above.join("Cargo.toml").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(parent: &Path, name: &str) -> Order {
        Order {
            name: name.to_owned(),
            phases: Vec::new(),
            api: Api::Registry,
            parent: parent.to_path_buf(),
        }
    }

    #[test]
    fn a_folder_that_is_there_is_left_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        for make in [
            |path: &Path| fs::create_dir(path),
            |path: &Path| fs::write(path, "mine"),
            |path: &Path| std::os::unix::fs::symlink("nowhere", path),
        ] {
            let path = parent.path().join("mine");
            make(&path).unwrap();
            let before = fs::symlink_metadata(&path).unwrap().modified().unwrap();
            let error = create(&order(parent.path(), "mine")).unwrap_err();
            assert!(matches!(error, NewError::Exists(_)), "{error}");
            let after = fs::symlink_metadata(&path).unwrap().modified().unwrap();
            assert_eq!(before, after);
            let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
        }
    }

    #[test]
    fn below_another_package_the_crate_is_a_workspace_of_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let alone = create(&order(parent.path(), "alone")).unwrap();
        let manifest = |folder: &Path| fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(!manifest(&alone).contains("[workspace]"));
        fs::write(parent.path().join("Cargo.toml"), "").unwrap();
        let nested = create(&order(parent.path(), "nested")).unwrap();
        assert!(manifest(&nested).contains("[workspace]"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_by_name() {
        let parent = tempfile::tempdir().unwrap();
        let error = create(&order(&parent.path().join("missing"), "mine")).unwrap_err();
        let said = error.to_string();
        assert!(
            said.starts_with("cannot write ") && said.ends_with("/missing/mine"),
            "{said}"
        );
    }
}
