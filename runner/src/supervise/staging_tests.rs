//! Private copies of good, cut and changing libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use sha2::Digest;

use super::*;
use crate::supervise::last_good::{LastGood, Seen};
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
                known: crate::supervise::last_good::Known::default(),
                seen: std::sync::Mutex::default(),
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

/// A runner that starts, makes a file ready, and keeps it as what has served: the inode of its copy, and the copy.
fn start_and_keep(state: &StateDir, file: &Path) -> (u64, PathBuf) {
    let (mut good, store) = LastGood::open(Some(state));
    let mut plugins = Plugins::new(Place::folder(state).unwrap());
    plugins.staging.known = good.known(store.as_ref());
    let staged = [1, 2].map(|generation| plugins.staging.stage(file, generation));
    let [
        Outcome::Staged {
            library,
            fingerprint,
            lasting,
            copy,
        },
        Outcome::Staged { copy: second, .. },
    ] = staged
    else {
        panic!("not staged");
    };
    let inode = |copy: &OwnedFd| fstat(copy).unwrap().st_ino;
    assert_ne!(
        inode(&copy),
        inode(&second),
        "the C library would take them for one"
    );
    assert_eq!(fs::read(&library.path).unwrap(), fs::read(file).unwrap());
    let seen = Seen::now(fingerprint).filter(|_| lasting);
    let change = good.served(file, library.sha256, &[], seen, |_| false);
    let inode = inode(&copy);
    let failed = store.unwrap().change([(change.unwrap(), Some(copy))]);
    assert!(failed.is_empty(), "{failed:?}");
    (inode, library.path)
}

/// Until a change of it a moment ago would show.
fn wait_until_certain(file: &Path) {
    let state = || Fingerprint::of(&rustix::fs::stat(file).unwrap());
    while state().may_hide_a_change(SystemTime::now()) {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_later_start_takes_the_kept_copy_of_a_file_only_while_both_are_as_they_were() {
    let place = tempfile::tempdir().unwrap();
    let state = StateDir::open(&place.path().join("state")).unwrap();
    let file = place.path().join("a.so");
    fs::write(&file, some_library()).unwrap();
    wait_until_certain(&file);
    let (certain, _) = start_and_keep(&state, &file);
    let (again, copy) = start_and_keep(&state, &file);
    assert_eq!(again, certain, "it was copied although it is known");
    fs::write(&copy, some_library()).unwrap();
    let (mended, _) = start_and_keep(&state, &file);
    assert_ne!(mended, again, "somebody has written the copy");
    let mut bytes = some_library();
    bytes.push(0);
    fs::write(&file, bytes).unwrap();
    let (changed, _) = start_and_keep(&state, &file);
    assert_ne!(changed, mended);
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
