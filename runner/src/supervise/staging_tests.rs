//! Private copies of good, cut and changing libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::supervise::state::StateDir;

/// A real shared library: the C library that this test runs on.
fn some_library() -> Vec<u8> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("/libc.so")).unwrap();
    fs::read(&line[line.find('/').unwrap()..]).unwrap()
}

struct Plugins {
    folder: tempfile::TempDir,
    staging: Staging,
}

impl Plugins {
    fn new(place: Place) -> Self {
        let trust = Trust {
            root: false,
            allow_writable: false,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            staging: Staging {
                place,
                trust,
                allow: None,
            },
        }
    }

    fn write(&self, bytes: &[u8]) -> PathBuf {
        let file = self.folder.path().join("a.so");
        fs::write(&file, bytes).unwrap();
        file
    }

    #[track_caller]
    fn refused(&self, file: &Path) -> Refusal {
        match self.staging.stage(file, 1) {
            Outcome::Refused(_, refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }
}

fn make_old(file: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let file = File::options().append(true).open(file).unwrap();
    file.set_modified(long_ago).unwrap();
}

#[test]
fn a_copy_has_the_same_bytes_its_own_name_and_is_readable_for_the_worker() {
    let state = tempfile::tempdir().unwrap();
    let state = StateDir::open(&state.path().join("state")).unwrap();
    let plugins = Plugins::new(Place::folder(&state).unwrap());
    let bytes = some_library();
    let file = plugins.write(&bytes);
    let mut paths = Vec::new();
    for generation in [1, 2] {
        let Outcome::Staged { library, .. } = plugins.staging.stage(&file, generation) else {
            panic!("not staged");
        };
        assert_eq!(fs::read(&library.path).unwrap(), bytes);
        let mode = fs::metadata(&library.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        paths.push(library.path);
    }
    assert_ne!(paths[0], paths[1]);
}

#[test]
fn without_a_folder_the_copy_is_memory_that_nobody_can_change() {
    let plugins = Plugins::new(Place::Memory);
    let bytes = some_library();
    let file = plugins.write(&bytes);
    let Outcome::Staged { copy: memory, .. } = plugins.staging.stage(&file, 1) else {
        panic!("not staged");
    };
    assert!(rustix::io::write(&memory, b"x").is_err());
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn a_truncated_file_is_waited_for_while_it_is_young_and_refused_when_it_is_not() {
    let plugins = Plugins::new(Place::Memory);
    let bytes = some_library();
    let file = plugins.write(&bytes[..bytes.len() / 2]);
    let outcome = plugins.staging.stage(&file, 1);
    assert!(matches!(outcome, Outcome::Unsettled), "{outcome:?}");
    make_old(&file);
    let refusal = plugins.refused(&file);
    assert!(refusal.cause.starts_with("is truncated: needs "));
    assert!(refusal.hint.unwrap().contains("rename"));
}

#[test]
fn a_file_that_others_may_write_or_that_is_not_listed_is_refused_with_the_key() {
    let mut plugins = Plugins::new(Place::Memory);
    let file = plugins.write(&some_library());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let hint = plugins.refused(&file).hint.unwrap();
    assert!(hint.contains("plugins.allow_writable"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    plugins.staging.allow = Some(vec!["00".repeat(32)]);
    let refusal = plugins.refused(&file);
    assert!(refusal.cause.ends_with("is not in plugins.allow"));
    let sum = sha2::Sha256::digest(some_library());
    plugins.staging.allow = Some(vec![Sha256(sum.into()).to_string()]);
    let outcome = plugins.staging.stage(&file, 1);
    assert!(matches!(outcome, Outcome::Staged { .. }), "{outcome:?}");
}

#[test]
fn a_start_cleans_up_after_dead_supervisors_only() {
    let place = tempfile::tempdir().unwrap();
    let state = StateDir::open(&place.path().join("state")).unwrap();
    let living = Place::folder(&state).unwrap();
    let dead = Place::folder(&state).unwrap();
    let Place::Folder(folder) = &dead else {
        panic!("not a folder");
    };
    let left = folder.path().to_owned();
    fs::write(left.join("a.so"), "x").unwrap();
    drop(dead); // its lock ends with it
    let third = Place::folder(&state).unwrap();
    assert!(!left.exists());
    for place in [living, third] {
        let Place::Folder(folder) = &place else {
            panic!("not a folder");
        };
        assert!(folder.is_in_place());
        place.remove();
        assert!(!folder.is_in_place());
    }
}
