//! Whatever happens in whatever order: no step is asked for that must not be, and every library comes to an end.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Scan(Vec<u64>),
    Staged(u8),
    Unsettled,
    Rejected,
    Passed,
    Failed,
    Unknown,
    Again,
    Loaded,
    Refused,
    WorkerEnds,
    Hold(u64),
    Recalled(u8),
    NotRecalled,
    RollBack,
    Withdraw,
    WorkerStarts,
    Time(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => proptest::collection::vec(0u64..4, 2).prop_map(Event::Scan),
        4 => (0u8..3).prop_map(Event::Staged),
        1 => Just(Event::Unsettled),
        1 => Just(Event::Rejected),
        4 => Just(Event::Passed),
        1 => Just(Event::Failed),
        1 => Just(Event::Unknown),
        1 => Just(Event::Again),
        4 => Just(Event::Loaded),
        2 => Just(Event::Refused),
        1 => Just(Event::WorkerEnds),
        1 => (1u64..20).prop_map(Event::Hold),
        3 => (0u8..3).prop_map(Event::Recalled),
        1 => Just(Event::NotRecalled),
        1 => Just(Event::RollBack),
        1 => Just(Event::Withdraw),
        2 => Just(Event::WorkerStarts),
        1 => (0u64..3000).prop_map(Event::Time),
    ]
}

/// Plays a worker, probes and a stager that may answer late, and checks every step against what may be asked of them.
#[derive(Default)]
struct World {
    staging: Vec<(PathBuf, u64)>,
    recalling: Vec<(PathBuf, u64)>,
    /// Generations that were made of last good copies.
    recalled: BTreeSet<u64>,
    probing: Vec<Library>,
    /// Generations of which a probe thought well.
    passed: BTreeSet<u64>,
    loading: Vec<Library>,
    alive: bool,
    files: BTreeMap<PathBuf, Fingerprint>,
    /// States loaded for the first time, since the last death of a worker or removal of the file.
    loaded: BTreeSet<(PathBuf, String)>,
    /// Somebody asked for `a.so` to be loaded again, and it was not yet.
    again: u32,
    /// The states that came out of staging last.
    staged: BTreeMap<PathBuf, Fingerprint>,
    generations: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

impl World {
    fn check(&mut self, steps: Vec<Step>, fresh: bool) {
        for step in steps {
            match step {
                Step::Stage { file, generation } => {
                    assert!(self.alive && self.files.contains_key(&file));
                    assert!(self.generations.insert(generation), "used before");
                    assert!(self.staging.iter().all(|(other, _)| *other != file));
                    assert!(self.loading.iter().all(|other| other.file != file));
                    assert!(self.probing.iter().all(|other| other.file != file));
                    self.staging.push((file, generation));
                }
                Step::Recall { file, generation } => {
                    assert!(self.alive && self.files.contains_key(&file));
                    assert!(self.generations.insert(generation), "used before");
                    assert!(self.staging.iter().all(|(other, _)| *other != file));
                    assert!(self.loading.iter().all(|other| other.file != file));
                    assert!(self.probing.iter().all(|other| other.file != file));
                    self.recalling.push((file, generation));
                }
                Step::Probe(library) => {
                    assert!(!self.deleted.contains(&library.generation));
                    assert!(self.probing.iter().all(|other| other.file != library.file));
                    self.probing.push(library);
                }
                Step::Load(library) => {
                    assert!(self.alive);
                    assert!(self.passed.contains(&library.generation), "not probed");
                    assert!(!self.deleted.contains(&library.generation));
                    assert!(self.loading.iter().all(|other| other.file != library.file));
                    if fresh && !self.recalled.contains(&library.generation) {
                        let state = format!("{:?}", self.staged[&library.file]);
                        let new = self.loaded.insert((library.file.clone(), state));
                        // Whoever asked may have met a load that was under way, so theirs comes after it.
                        let asked = library.file == Path::new("a.so") && self.again > 0;
                        self.again -= u32::from(!new && asked);
                        assert!(new || asked, "loaded twice without a change in between");
                    }
                    self.loading.push(library);
                }
                Step::Withdraw(_) => {}
                Step::Unload(file) => {
                    assert!(!self.files.contains_key(&file), "it is there");
                    self.loaded.retain(|(other, _)| *other != file);
                }
                Step::Discard(library) | Step::Retire(library) => {
                    assert!(self.deleted.insert(library.generation), "deleted twice");
                }
                Step::Blame(_) => assert!(!self.alive),
            }
        }
    }
}

proptest! {
    #[test]
    fn any_order_of_events_asks_only_for_what_can_be_done(events in proptest::collection::vec(event(), 1..80)) {
        let (mut reload, mut world) = (Reload::default(), World::default());
        let mut now = Instant::now();
        for event in events {
            match event {
                Event::Time(ms) => now += Duration::from_millis(ms),
                Event::Scan(states) => {
                    let names = ["a.so", "b.so"].into_iter().zip(states);
                    let files: Vec<_> = names.filter(|(_, state)| *state > 0).collect();
                    let before = std::mem::replace(&mut world.files, seen(&files));
                    // A state that comes back after another one is a change.
                    let files = &world.files;
                    world.loaded.retain(|(file, _)| files.get(file) == before.get(file));
                    let steps = reload.scanned(now, &world.files);
                    world.check(steps, false);
                }
                Event::Staged(content) if !world.staging.is_empty() => {
                    let (file, generation) = world.staging.remove(0);
                    let state = world.files.get(&file).copied().unwrap_or(Fingerprint::for_test(9));
                    world.staged.insert(file.clone(), state);
                    let steps = reload.staged(library(&file, generation, content), state);
                    world.check(steps, false);
                }
                Event::Passed if !world.probing.is_empty() => {
                    let library = world.probing.remove(0);
                    world.passed.insert(library.generation);
                    let steps = reload.passed(library.generation);
                    world.check(steps, true);
                }
                Event::Failed if !world.probing.is_empty() => {
                    let library = world.probing.remove(0);
                    let steps = reload.failed(library.generation);
                    world.check(steps, false);
                }
                Event::Unknown if !world.probing.is_empty() => {
                    let library = world.probing.remove(0);
                    let steps = reload.unknown(now, library.generation);
                    world.check(steps, false);
                }
                Event::Unsettled if !world.staging.is_empty() => {
                    reload.unsettled(&world.staging.remove(0).0);
                }
                Event::Rejected if !world.staging.is_empty() => {
                    let (file, _) = world.staging.remove(0);
                    let steps = reload.rejected(&file, world.files.get(&file).copied());
                    world.check(steps, false);
                }
                Event::Again => {
                    world.again += 1;
                    reload.again(Path::new("a.so"));
                }
                Event::Loaded if !world.loading.is_empty() => {
                    let library = world.loading.remove(0);
                    let steps = reload.loaded(library.generation);
                    world.check(steps, false);
                    let withdrawn = world.deleted.contains(&library.generation);
                    let expected = (!withdrawn).then_some(&library);
                    prop_assert_eq!(reload.serving(&library.file), expected);
                }
                Event::Refused if !world.loading.is_empty() => {
                    let library = world.loading.remove(0);
                    let before = reload.serving(&library.file).cloned();
                    let steps = reload.refused(library.generation);
                    world.check(steps, false);
                    let still = before.filter(|before| *before != library);
                    prop_assert_eq!(reload.serving(&library.file), still.as_ref());
                }
                Event::WorkerEnds if world.alive => {
                    world.alive = false;
                    world.loading.clear();
                    world.loaded.clear();
                    let steps = reload.worker_ended(Suspect::Unknown);
                    world.check(steps, false);
                }
                Event::Recalled(content) if !world.recalling.is_empty() => {
                    let (file, generation) = world.recalling.remove(0);
                    world.recalled.insert(generation);
                    let steps = reload.recalled(library(&file, generation, content));
                    world.check(steps, false);
                }
                Event::NotRecalled if !world.recalling.is_empty() => {
                    let steps = reload.not_recalled(&world.recalling.remove(0).0);
                    world.check(steps, false);
                }
                Event::RollBack => {
                    let steps = reload.roll_back(Path::new("a.so"));
                    world.check(steps, false);
                }
                Event::Withdraw => {
                    let steps = reload.withdraw(Path::new("a.so"));
                    world.check(steps, false);
                    prop_assert_eq!(reload.serving(Path::new("a.so")), None);
                }
                Event::Hold(generation) if !world.alive => {
                    let steps = reload.hold(generation);
                    world.check(steps, false);
                    let serves = |library: &Library| library.generation == generation;
                    let served = reload.files().filter_map(|(_, state)| state.serving);
                    prop_assert!(!served.into_iter().any(serves));
                }
                Event::WorkerStarts if !world.alive => {
                    world.alive = true;
                    let steps = reload.worker_started();
                    world.check(steps, false);
                }
                _ => {}
            }
        }
    }
}
