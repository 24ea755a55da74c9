//! Copies on disk that are good, changed, cut, or too many.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use sha2::Digest;

struct Kept {
    place: tempfile::TempDir,
    good: LastGood,
    store: Store,
}

impl Kept {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(place: tempfile::TempDir) -> Self {
        let state = StateDir::open(&place.path().join("state")).unwrap();
        let (good, store) = LastGood::open(Some(&state));
        let store = store.unwrap();
        Self { place, good, store }
    }

    /// A runner of later.
    fn again(self) -> Self {
        Self::at(self.place)
    }

    fn folder(&self) -> PathBuf {
        self.place.path().join("state/good")
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder()).unwrap().count() - 1 // the index
    }

    fn serve(&mut self, file: &str, content: &str) -> Sha256 {
        let sha256 = sum(content);
        let served = self
            .good
            .served(Path::new(file), sha256, &[], None, |_| false);
        self.store_all(served, content);
        sha256
    }

    fn store_all(&self, change: Option<Change>, content: &str) {
        // As a private copy is: nobody writes it again.
        let copy = tempfile::NamedTempFile::new_in(self.place.path()).unwrap();
        fs::write(copy.path(), content).unwrap();
        let opened = fs::File::open(copy.path()).unwrap().into();
        let failed = self.store.change([(change.unwrap(), Some(opened))]);
        assert!(failed.is_empty(), "{failed:?}");
    }

    fn sums(&self, file: &str) -> Vec<Sha256> {
        let copies = self.good.of_file(Path::new(file));
        copies.iter().map(|good| good.sha256).collect()
    }
}

fn sum(content: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(content.as_bytes()).into())
}

#[test]
fn what_served_outlives_the_process_the_newest_first_and_no_more_than_needed() {
    let mut kept = Kept::new();
    let one = kept.serve("/p/a.so", "one");
    let two = kept.serve("/p/a.so", "two");
    let three = kept.serve("/p/a.so", "three");
    let other = kept.serve("/p/b.so", "other");
    assert_eq!(kept.files(), 3);
    let mut kept = kept.again();
    assert_eq!(kept.sums("/p/a.so"), [three, two]);
    assert_eq!(kept.sums("/p/b.so"), [other]);
    assert_eq!(kept.store.read(two).unwrap(), b"two");
    assert!(kept.store.read(one).is_err(), "nothing needs it");
    kept.serve("/p/a.so", "two");
    assert_eq!(kept.again().sums("/p/a.so"), [two, three]);
}

#[test]
fn a_file_that_is_gone_needs_no_copies_and_others_keep_theirs() {
    let mut kept = Kept::new();
    let here = kept.serve("/p/a.so", "here");
    kept.serve("/p/b.so", "gone");
    let elsewhere = kept.serve("/q/c.so", "elsewhere");
    let is_there = |file: &Path| file.ends_with("a.so");
    let changes = kept.good.forget(Path::new("/p"), is_there);
    for change in changes {
        assert!(kept.store.change([(change, None)]).is_empty());
    }
    assert_eq!(kept.files(), 2);
    let kept = kept.again();
    assert_eq!(kept.sums("/p/a.so"), [here]);
    assert_eq!(kept.sums("/p/b.so"), []);
    assert_eq!(kept.sums("/q/c.so"), [elsewhere]);
}

#[test]
fn a_copy_that_has_changed_or_that_others_may_write_is_not_used() {
    let mut kept = Kept::new();
    let sha256 = kept.serve("/p/a.so", "content");
    let copy = kept.folder().join(sha256.to_string());
    fs::write(&copy, "CONTENT").unwrap();
    let error = kept.store.read(sha256).unwrap_err().to_string();
    assert!(error.contains("its content has changed"), "{error}");
    kept.serve("/p/a.so", "content");
    assert_eq!(kept.store.read(sha256).unwrap(), b"content", "mended");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o666)).unwrap();
    let error = kept.store.read(sha256).unwrap_err().to_string();
    assert!(error.contains("others may write it"), "{error}");
}

#[test]
fn an_index_that_cannot_be_read_is_written_anew() {
    let mut kept = Kept::new();
    kept.serve("/p/a.so", "content");
    let index = kept.folder().join("index");
    for garbage in [&b"{"[..], b"\xff\0", b"[]", b""] {
        fs::write(&index, garbage).unwrap();
        kept = kept.again();
        assert_eq!(kept.sums("/p/a.so"), []);
    }
    let sha256 = kept.serve("/p/a.so", "content");
    assert_eq!(kept.again().sums("/p/a.so"), [sha256]);
}

#[test]
fn two_runners_do_not_undo_each_others_changes() {
    let mut first = Kept::new();
    let state = StateDir::open(&first.place.path().join("state")).unwrap();
    let (mut good, store) = LastGood::open(Some(&state));
    let other = first.serve("/p/a.so", "of the first");
    let sha256 = sum("of the second");
    let change = good.served(Path::new("/p/b.so"), sha256, &[], None, |_| false);
    let ours = std::mem::replace(&mut first.store, store.unwrap());
    first.store_all(change, "of the second");
    first.store = ours;
    let later = first.again();
    assert_eq!(later.sums("/p/a.so"), [other]);
    assert_eq!(later.sums("/p/b.so"), [sha256]);
}

#[test]
fn what_must_not_serve_gives_its_place_to_what_may() {
    let mut kept = Kept::new();
    let one = kept.serve("/p/a.so", "one");
    let two = kept.serve("/p/a.so", "two");
    let three = sum("three");
    let may_go = |sha256| sha256 == two;
    let change = kept
        .good
        .served(Path::new("/p/a.so"), three, &[], None, may_go);
    let sums: Vec<_> = change.unwrap().copies.iter().map(|it| it.sha256).collect();
    assert_eq!(sums, [three, one]);
}

#[test]
fn copies_are_kept_of_so_many_files_and_for_so_long() {
    let mut index = Index::new();
    let now = 1_000_000_000;
    let change = |n: u64, served| Change {
        file: format!("/p/{n}.so").into(),
        copies: vec![Good {
            sha256: Sha256([0; 32]),
            plugins: String::new(),
            served,
            seen: None,
        }],
    };
    apply(&mut index, change(0, now - FORGOTTEN.as_secs() + 1), now);
    for n in 1..=FILES as u64 {
        apply(&mut index, change(n, now), now);
    }
    assert_eq!(index.len(), FILES);
    assert!(!index.contains_key(Path::new("/p/0.so")), "the oldest went");
    apply(
        &mut index,
        change(1, now + FORGOTTEN.as_secs()),
        now + FORGOTTEN.as_secs(),
    );
    assert_eq!(index.len(), 1);
}
