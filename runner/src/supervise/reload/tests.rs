//! What `reload` decides, for any sequence of events.

mod any_order;

use std::time::Duration;

use super::file::{DEATHS, GRACE, RETRY, RETRY_LATEST};
use super::*;
use crate::supervise::workshop::Sha256;

fn seen(files: &[(&str, u64)]) -> BTreeMap<PathBuf, Fingerprint> {
    files
        .iter()
        .map(|(name, state)| (PathBuf::from(name), Fingerprint::for_test(*state)))
        .collect()
}

fn library(file: &Path, generation: u64, content: u8) -> Library {
    Library {
        generation,
        file: file.to_owned(),
        path: PathBuf::from(format!("/copies/{generation}")),
        sha256: Sha256([content; 32]),
    }
}

/// The same steps where there are no last good copies.
fn without_copies(reload: &mut Reload, steps: Vec<Step>) -> Vec<Step> {
    let mut others = Vec::new();
    for step in steps {
        match step {
            Step::Recall { file, .. } => others.extend(reload.not_recalled(&file)),
            other => others.push(other),
        }
    }
    others
}

/// A machine whose steps are carried out at once. By its content a library is refused (0), fails in its probe (98), hangs
/// in it (99), or serves.
struct Folder {
    reload: Reload,
    now: Instant,
    files: Vec<(&'static str, u64)>,
    /// Contents of the last good copies, the best first.
    good: Vec<u8>,
    log: Vec<String>,
}

impl Folder {
    fn new() -> Self {
        let mut reload = Reload::default();
        assert_eq!(reload.worker_started(), []);
        Self {
            reload,
            now: Instant::now(),
            files: Vec::new(),
            good: Vec::new(),
            log: Vec::new(),
        }
    }

    fn scan(&mut self, files: &[(&'static str, u64)]) -> Vec<String> {
        self.files = files.to_vec();
        let steps = self.reload.scanned(self.now, &seen(files));
        self.carry_out(steps);
        std::mem::take(&mut self.log)
    }

    fn carry_out(&mut self, steps: Vec<Step>) {
        for step in steps {
            let more = match step {
                Step::Stage { file, generation } => {
                    let state = self.files.iter().find(|(name, _)| Path::new(name) == file);
                    let state = state.unwrap().1;
                    let library = library(&file, generation, (state % 100) as u8);
                    self.reload.staged(library, Fingerprint::for_test(state))
                }
                Step::Recall { file, generation } => match self.good.is_empty() {
                    true => self.reload.not_recalled(&file),
                    false => {
                        self.log.push(format!("recall {}", file.display()));
                        let content = self.good.remove(0);
                        self.reload.recalled(library(&file, generation, content))
                    }
                },
                Step::Probe(library) => {
                    self.log.push(format!("probe {}", library.file.display()));
                    match library.sha256.0[0] {
                        98 => self.reload.failed(library.generation),
                        99 => self.reload.unknown(self.now, library.generation),
                        _ => self.reload.passed(library.generation),
                    }
                }
                Step::Load(library) => {
                    self.log.push(format!("load {}", library.file.display()));
                    match library.sha256.0[0] {
                        0 => self.reload.refused(library.generation),
                        _ => self.reload.loaded(library.generation),
                    }
                }
                Step::Unload(file) => {
                    self.log.push(format!("unload {}", file.display()));
                    Vec::new()
                }
                Step::Withdraw(file) => {
                    self.log.push(format!("withdraw {}", file.display()));
                    Vec::new()
                }
                Step::Blame(library) => {
                    self.log.push(format!("blame {}", library.file.display()));
                    Vec::new()
                }
                Step::Discard(_) | Step::Retire(_) => Vec::new(),
            };
            self.carry_out(more);
        }
    }
}

#[test]
fn a_file_is_loaded_once_and_again_only_when_its_content_changed() {
    let mut folder = Folder::new();
    assert_eq!(folder.scan(&[("a.so", 1)]), ["probe a.so", "load a.so"]);
    assert_eq!(folder.scan(&[("a.so", 1)]), [""; 0]);
    assert_eq!(folder.scan(&[("a.so", 101)]), [""; 0], "touched only");
    assert_eq!(folder.scan(&[("a.so", 2)]), ["probe a.so", "load a.so"]);
    assert!(folder.reload.is_settled());
}

#[test]
fn a_refused_file_is_not_tried_again_until_it_changes_and_its_predecessor_serves() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    assert_eq!(folder.scan(&[("a.so", 100)]), ["probe a.so", "load a.so"]);
    assert_eq!(folder.scan(&[("a.so", 100)]), [""; 0]);
    let serving = folder.reload.serving(Path::new("a.so")).unwrap();
    assert_eq!(serving.generation, 1);
    assert_eq!(folder.scan(&[("a.so", 200)]), ["probe a.so", "load a.so"]);
}

#[test]
fn a_removal_counts_only_after_the_grace_period() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    assert_eq!(folder.scan(&[]), [""; 0]);
    folder.now += GRACE / 2;
    assert_eq!(folder.scan(&[("a.so", 101)]), [""; 0], "it is back");
    assert_eq!(folder.scan(&[]), [""; 0]);
    folder.now += GRACE;
    assert_eq!(folder.scan(&[]), ["unload a.so"]);
    assert_eq!(folder.scan(&[("a.so", 1)]), ["probe a.so", "load a.so"]);
}

#[test]
fn a_change_during_a_load_is_taken_up_after_it() {
    let mut reload = Reload::default();
    reload.worker_started();
    let file = Path::new("a.so");
    reload.scanned(Instant::now(), &seen(&[("a.so", 1)]));
    reload.staged(library(file, 1, 1), Fingerprint::for_test(1));
    reload.passed(1);
    assert_eq!(reload.scanned(Instant::now(), &seen(&[("a.so", 2)])), []);
    let stage = Step::Stage {
        file: file.to_owned(),
        generation: 2,
    };
    assert_eq!(reload.loaded(1), [stage]);
}

#[test]
fn the_library_that_a_worker_died_of_is_blamed_and_those_behind_it_are_tried_again() {
    let mut reload = Reload::default();
    reload.worker_started();
    let now = Instant::now();
    reload.scanned(now, &seen(&[("a.so", 1), ("b.so", 2)]));
    let a = library(Path::new("a.so"), 1, 1);
    reload.staged(a.clone(), Fingerprint::for_test(1));
    reload.staged(library(Path::new("b.so"), 2, 2), Fingerprint::for_test(2));
    reload.passed(1);
    reload.passed(2);
    assert!(
        reload
            .worker_ended(Suspect::Load(1))
            .contains(&Step::Blame(a))
    );
    let again = Step::Stage {
        file: PathBuf::from("b.so"),
        generation: 3,
    };
    let steps = reload.worker_started();
    assert_eq!(without_copies(&mut reload, steps), [again]);
}

#[test]
fn a_library_is_not_blamed_when_another_ended_the_worker_while_it_was_loaded() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    let mut reload = folder.reload;
    reload.scanned(folder.now, &seen(&[("a.so", 1), ("b.so", 2)]));
    let b = library(Path::new("b.so"), 2, 2);
    reload.staged(b.clone(), Fingerprint::for_test(2));
    reload.passed(2);
    assert_eq!(reload.worker_ended(Suspect::Nobody), [Step::Retire(b)]);
    let steps = reload.worker_started();
    assert!(
        matches!(steps.as_slice(), [Step::Load(_), Step::Stage { .. }]),
        "{steps:?}"
    );
}

#[test]
fn what_may_have_ended_a_worker_while_it_was_loaded_is_given_up_after_three() {
    let mut reload = Reload::default();
    let (now, file) = (Instant::now(), Path::new("a.so"));
    reload.worker_started();
    reload.scanned(now, &seen(&[("a.so", 1)]));
    for generation in 1..=u64::from(DEATHS) {
        let fresh = library(file, generation, 1);
        reload.staged(fresh.clone(), Fingerprint::for_test(1));
        reload.passed(generation);
        let steps = reload.worker_ended(Suspect::Unknown);
        let blamed = steps.contains(&Step::Blame(fresh));
        assert_eq!(blamed, generation == u64::from(DEATHS));
        let steps = reload.worker_started();
        assert_eq!(without_copies(&mut reload, steps).is_empty(), blamed);
    }
}

#[test]
fn what_served_is_loaded_again_in_a_new_worker_and_given_up_when_three_die_of_it() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    let library = folder
        .reload
        .serving(Path::new("a.so"))
        .cloned()
        .into_iter()
        .collect::<Vec<_>>();
    let load = Step::Load(library[0].clone());
    assert_eq!(
        folder.reload.worker_ended(Suspect::Unknown),
        [],
        "it was not loading"
    );
    for _ in 1..DEATHS {
        assert_eq!(folder.reload.worker_started(), std::slice::from_ref(&load));
        assert_eq!(folder.reload.worker_ended(Suspect::Unknown), []);
    }
    folder.reload.worker_started();
    let blame = Step::Blame(library[0].clone());
    assert!(
        folder
            .reload
            .worker_ended(Suspect::Unknown)
            .contains(&blame)
    );
    let steps = folder.reload.worker_started();
    assert_eq!(without_copies(&mut folder.reload, steps), []);
    assert!(folder.reload.is_settled());
}

#[test]
fn what_is_wanted_again_is_loaded_again_unchanged() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    folder.reload.again(Path::new("a.so"));
    assert_eq!(folder.scan(&[("a.so", 1)]), ["probe a.so", "load a.so"]);
    let serving = folder.reload.serving(Path::new("a.so")).unwrap();
    assert_eq!(serving.generation, 2);
    assert_eq!(folder.scan(&[("a.so", 1)]), [""; 0]);
}

#[test]
fn what_fails_in_its_probe_is_never_loaded_and_not_probed_again_until_it_changes() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    assert_eq!(folder.scan(&[("a.so", 98)]), ["probe a.so"]);
    folder.now += RETRY_LATEST;
    assert_eq!(folder.scan(&[("a.so", 98)]), [""; 0]);
    let serving = folder.reload.serving(Path::new("a.so")).unwrap();
    assert_eq!(serving.generation, 1);
    assert_eq!(folder.scan(&[("a.so", 2)]), ["probe a.so", "load a.so"]);
}

#[test]
fn a_probe_that_hung_is_repeated_ever_later_and_at_once_when_the_file_changes() {
    let mut folder = Folder::new();
    assert_eq!(folder.scan(&[("a.so", 99)]), ["probe a.so"]);
    assert!(folder.reload.is_settled(), "calls do not wait for it");
    for wait in [RETRY, RETRY * 2, RETRY * 4] {
        folder.now += wait - Duration::from_millis(1);
        assert_eq!(folder.scan(&[("a.so", 99)]), [""; 0]);
        folder.now += Duration::from_millis(1);
        assert_eq!(folder.scan(&[("a.so", 99)]), ["probe a.so"]);
    }
    assert_eq!(folder.scan(&[("a.so", 199)]), ["probe a.so"]);
    folder.now += RETRY;
    assert_eq!(
        folder.scan(&[("a.so", 199)]),
        ["probe a.so"],
        "from the beginning"
    );
}

#[test]
fn nobody_waits_for_the_probe_of_a_successor_and_a_new_worker_for_no_new_file() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    let mut reload = folder.reload;
    reload.scanned(folder.now, &seen(&[("a.so", 2)]));
    reload.staged(library(Path::new("a.so"), 2, 2), Fingerprint::for_test(2));
    assert!(reload.is_settled());
    reload.scanned(folder.now, &seen(&[("a.so", 2), ("b.so", 3)]));
    assert!(!reload.is_settled(), "at a start they wait for it");
    reload.worker_ended(Suspect::Unknown);
    reload.worker_started();
    assert!(!reload.is_as_before());
    reload.loaded(1);
    assert!(reload.is_as_before());
}

#[test]
fn what_is_held_gives_way_to_what_served_before_it_until_the_file_changes() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    folder.scan(&[("a.so", 2)]);
    let file = Path::new("a.so");
    folder.reload.worker_ended(Suspect::Nobody);
    let held = library(file, 2, 2);
    assert_eq!(folder.reload.hold(2), [Step::Retire(held)]);
    assert_eq!(folder.reload.hold(2), [], "it has gone");
    let steps = folder.reload.worker_started();
    assert_eq!(steps, [Step::Load(library(file, 1, 1))]);
    folder.carry_out(steps);
    assert_eq!(folder.reload.serving(file).unwrap().generation, 1);
    assert_eq!(folder.scan(&[("a.so", 2)]).len(), 1, "only the load before");
    assert_eq!(folder.scan(&[("a.so", 3)]), ["probe a.so", "load a.so"]);
}

#[test]
fn what_is_held_without_a_predecessor_leaves_nothing() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 1)]);
    folder.reload.worker_ended(Suspect::Nobody);
    folder.reload.hold(1);
    let steps = folder.reload.worker_started();
    assert_eq!(without_copies(&mut folder.reload, steps), []);
    assert_eq!(folder.scan(&[("a.so", 1)]), [""; 0]);
    assert!(folder.reload.is_settled());
}

#[test]
fn at_a_start_with_a_bad_file_its_last_good_copy_serves_until_a_good_one_comes() {
    for bad in [0, 98, 99] {
        let mut folder = Folder::new();
        folder.good = vec![1];
        let log = folder.scan(&[("a.so", bad)]);
        assert!(log.ends_with(&["recall a.so", "probe a.so", "load a.so"].map(str::to_owned)));
        let file = Path::new("a.so");
        let serving = folder.reload.serving(file).unwrap().sha256;
        assert_eq!(serving, Sha256([1; 32]));
        assert!(folder.reload.is_settled());
        assert_eq!(folder.scan(&[("a.so", bad)]), [""; 0]);
        assert_eq!(folder.scan(&[("a.so", 2)]), ["probe a.so", "load a.so"]);
        let previous = folder.reload.previous().next().unwrap();
        assert_eq!(previous.sha256, serving, "it would take over again");
    }
}

#[test]
fn copies_are_tried_in_turn_and_calls_wait_for_no_more_than_these() {
    let mut folder = Folder::new();
    folder.good = vec![98, 0, 3];
    let log = folder.scan(&[("a.so", 98)]).join(", ");
    let recall = "recall a.so, probe a.so";
    let wanted = format!("probe a.so, {recall}, {recall}, load a.so, {recall}, load a.so");
    assert_eq!(log, wanted);
    let mut folder = Folder::new();
    folder.good = vec![99];
    let log = folder.scan(&[("a.so", 98)]).join(", ");
    assert_eq!(log, format!("probe a.so, {recall}"));
    assert!(folder.reload.is_settled() && folder.reload.is_idle());
    folder.now += RETRY_LATEST;
    assert_eq!(folder.scan(&[("a.so", 98)]), [""; 0]);
    folder.good = vec![3];
    let log = folder.scan(&[("a.so", 198)]).join(", ");
    assert_eq!(log, format!("probe a.so, {recall}, load a.so"));
}

#[test]
fn calls_at_a_start_wait_for_the_last_good_copy() {
    let mut reload = Reload::default();
    let file = Path::new("a.so");
    reload.worker_started();
    reload.scanned(Instant::now(), &seen(&[("a.so", 1)]));
    let steps = reload.rejected(file, Some(Fingerprint::for_test(1)));
    let [Step::Recall { generation, .. }] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert!(!reload.is_settled());
    let copy = library(file, *generation, 1);
    assert_eq!(reload.recalled(copy.clone()), [Step::Probe(copy.clone())]);
    assert!(!reload.is_settled());
    assert_eq!(reload.passed(*generation), [Step::Load(copy)]);
    assert!(!reload.is_settled());
    reload.loaded(*generation);
    assert!(reload.is_settled());
}

#[test]
fn a_build_is_rolled_back_and_stays_so_until_the_file_changes() {
    let mut folder = Folder::new();
    folder.scan(&[("a.so", 2)]);
    folder.good = vec![1];
    let steps = folder.reload.roll_back(Path::new("a.so"));
    folder.carry_out(steps);
    let content = |folder: &Folder| folder.reload.serving(Path::new("a.so")).unwrap().sha256.0[0];
    assert_eq!(content(&folder), 1);
    folder.log.clear();
    assert_eq!(folder.scan(&[("a.so", 2)]), [""; 0]);
    folder.reload.worker_ended(Suspect::Nobody);
    let steps = folder.reload.worker_started();
    folder.carry_out(steps);
    assert_eq!(content(&folder), 1);
    folder.log.clear();
    assert_eq!(folder.scan(&[("a.so", 3)]), ["probe a.so", "load a.so"]);
    assert_eq!(content(&folder), 3);
    let steps = folder.reload.roll_back(Path::new("a.so"));
    folder.carry_out(steps);
    assert_eq!(content(&folder), 3, "there is nothing to go back to");
}
