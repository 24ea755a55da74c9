//! Confs that are refused, hang, or come again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use plugin_api::abi::{Bytes, Handle, Outcome};

use super::*;
use crate::plugins::instance::Prepared;
use crate::plugins::tests::fake::{Functions, accept, generation, refuse};
use crate::request::assign::{AssignToken, Stay};
use crate::request::conf::{Conf, PluginConf};

const PATIENCE: Duration = Duration::from_secs(10);

type Configure = extern "C" fn(Handle, Bytes, Bytes) -> Outcome;

/// What the supervisor was told last.
#[derive(Default)]
struct Told(Mutex<Vec<Stay>>);

impl AssignToken for Told {
    fn assign(&self, _: &[u8]) -> Result<u32, String> {
        Err("not here".to_owned())
    }

    fn forget(&self, _: u32) {}

    fn stays(&self, _: &[u8; 32], on: &[Stay]) {
        *self.0.lock().unwrap() = on.to_vec();
    }
}

struct Runner {
    registry: Arc<Registry>,
    assembler: Assembler,
    told: Arc<Told>,
}

impl Runner {
    fn new() -> Self {
        let registry = Arc::new(Registry::new(Default::default()));
        registry.open(&Default::default());
        let told = Arc::new(Told::default());
        let older = Arc::new(OlderBuilds::new(told.clone()));
        let config = Arc::default();
        let assembler = Assembler::new(Arc::clone(&registry), config, older).unwrap();
        Self {
            registry,
            assembler,
            told,
        }
    }

    fn stays(&self) -> Vec<(usize, u64)> {
        let told = self.told.0.lock().unwrap();
        told.iter()
            .map(|stay| (stay.index, stay.generation))
            .collect()
    }

    fn load(&self, number: u64, plugin: &str, configure: Configure) {
        let functions = Functions {
            configure,
            ..Functions::default()
        };
        self.load_with(number, plugin, functions);
    }

    fn load_with(&self, number: u64, plugin: &str, functions: Functions) {
        let file = format!("{plugin}.so");
        let generation = generation(number, plugin, &file, functions);
        self.registry.add(&generation);
    }

    /// Assembles a chain and waits for it.
    fn chain(&self, route_key: &str, plugins: &[(&str, &str)]) -> Arc<Chain> {
        let chain = chain(route_key, plugins);
        self.assembler
            .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
        chain
    }
}

fn chain(route_key: &str, plugins: &[(&str, &str)]) -> Arc<Chain> {
    let plugins = plugins.iter().map(|(name, value)| PluginConf {
        name: (*name).to_owned(),
        value: value.as_bytes().to_vec(),
    });
    let conf = Conf {
        route_key: route_key.to_owned(),
        plugins: plugins.collect(),
    };
    Arc::new(Chain::new(1, conf))
}

/// The generation behind each link that serves.
fn numbers(chain: &Chain) -> Vec<u64> {
    let snapshot = chain.snapshot();
    let ready = snapshot.ready();
    ready.map(|prepared| prepared.generation().number).collect()
}

fn first(chain: &Chain) -> Arc<Prepared> {
    Arc::clone(chain.snapshot().ready().next().unwrap())
}

fn wait(what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

/// Where a `configure` that hangs waits until the test lets it go.
struct Gate {
    inside: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    const fn new() -> Self {
        Self {
            inside: AtomicUsize::new(0),
            open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    fn wait(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

#[test]
fn a_configure_that_hangs_does_not_keep_the_mended_library_from_serving() {
    static GATE: Gate = Gate::new();
    extern "C" fn hang(_: Handle, _: Bytes, _: Bytes) -> Outcome {
        GATE.wait();
        Outcome::made(Handle::NONE)
    }
    let runner = Runner::new();
    runner.load(1, "p", hang);
    let chain = chain("route#1#x#1", &[("p", "{}")]);
    let hanging = runner.assembler.assemble(Arc::clone(&chain));
    wait("configure runs", || GATE.inside.load(Ordering::SeqCst) == 1);
    runner.load(2, "p", accept);
    runner
        .assembler
        .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
    assert_eq!(numbers(&chain), [2]);
    GATE.open();
    wait("the first one ends", || hanging.is_finished());
    assert_eq!(numbers(&chain), [2], "what ends late changes nothing");
}

#[test]
fn a_plugin_that_hangs_on_all_routes_leaves_threads_for_the_others() {
    static GATE: Gate = Gate::new();
    extern "C" fn hang(_: Handle, _: Bytes, _: Bytes) -> Outcome {
        GATE.wait();
        Outcome::made(Handle::NONE)
    }
    let runner = Runner::new();
    runner.load(1, "hangs", hang);
    runner.load(2, "good", accept);
    let both = [("good", "{}"), ("hangs", "{}")];
    for route in 0..THREADS * 2 {
        drop(
            runner
                .assembler
                .assemble(chain(&format!("route#{route}#x#1"), &both)),
        );
    }
    wait("configure runs", || GATE.inside.load(Ordering::SeqCst) > 0);
    let other = runner.chain("route#other#x#1", &[("good", "{}")]);
    assert_eq!(numbers(&other), [2]);
    GATE.open();
}

#[test]
fn a_conf_that_comes_again_under_a_new_version_keeps_what_was_made_of_it() {
    let runner = Runner::new();
    runner.load(1, "p", accept);
    runner.load(2, "q", accept);
    let key = |version| format!("route&service#1&2#ext-plugin-pre-req#{version}");
    let old = runner.chain(&key("7&7"), &[("p", "1"), ("p", "1")]);
    let edited = runner.chain(&key("8&7#9"), &[("q", "new"), ("p", "1"), ("p", "1")]);
    let made = |chain: &Chain| -> Vec<Arc<Prepared>> {
        let snapshot = chain.snapshot();
        snapshot.ready().map(Arc::clone).collect()
    };
    let (old_made, new_made) = (made(&old), made(&edited));
    assert!(Arc::ptr_eq(&old_made[0], &new_made[1]));
    assert!(Arc::ptr_eq(&old_made[1], &new_made[2]));
    assert!(
        !Arc::ptr_eq(&old_made[0], &old_made[1]),
        "two places, two states"
    );
    for (route_key, value) in [
        ("route&service#1&2#ext-plugin-pre-req#9", "2"),
        ("route&service#1&2#ext-plugin-post-req#9", "1"),
        ("route#1#ext-plugin-pre-req#9", "1"),
    ] {
        let other = runner.chain(route_key, &[("p", value)]);
        assert!(!Arc::ptr_eq(&first(&other), &old_made[0]), "{route_key}");
    }
    drop((old, edited, old_made, new_made));
    let again = runner.chain(&key("10"), &[("p", "1")]);
    assert_eq!(numbers(&again), [1], "made anew when nobody holds it");
}

#[test]
fn a_conf_that_the_new_generation_refuses_stays_on_the_old_one() {
    let runner = Runner::new();
    runner.load(1, "p", accept);
    let chain = runner.chain("route#1#x#1", &[("p", "{}")]);
    runner.load(2, "p", refuse);
    runner
        .assembler
        .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
    assert_eq!(numbers(&chain), [1]);
    let new = runner.chain("route#2#x#1", &[("p", "{}")]);
    assert_eq!(numbers(&new), [0; 0]);
    assert!(matches!(
        new.snapshot().links[0].state,
        LinkState::Failing(_)
    ));
}

/// A plugin that counts its confs; its state is the number of the conf.
macro_rules! counting {
    () => {{
        static CONFS: AtomicUsize = AtomicUsize::new(0);
        /// Which conf was given a state of which version.
        static IMPORTED: Mutex<Vec<(usize, u32)>> = Mutex::new(Vec::new());
        extern "C" fn configure(_: Handle, _: Bytes, _: Bytes) -> Outcome {
            let number = CONFS.fetch_add(1, Ordering::SeqCst) + 1;
            let pointer = std::ptr::without_provenance_mut(number);
            Outcome::made(Handle { pointer })
        }
        extern "C" fn export_state(_: Handle, prepared: Handle) -> Outcome {
            let mut outcome = Outcome::made(Handle::NONE);
            outcome.version = prepared.pointer.addr() as u32;
            outcome.state = vec![1; 8].into();
            outcome
        }
        extern "C" fn import_state(_: Handle, prepared: Handle, from: u32, _: Bytes) -> Outcome {
            let mut imported = IMPORTED.lock().unwrap();
            imported.push((prepared.pointer.addr(), from));
            Outcome::made(Handle::NONE)
        }
        let functions = || Functions {
            configure,
            export_state,
            import_state,
            ..Functions::default()
        };
        (functions, || IMPORTED.lock().unwrap().clone())
    }};
}

#[test]
fn a_conf_takes_over_the_state_of_the_same_conf_in_the_generation_before() {
    let (counting, imported) = counting!();
    let runner = Runner::new();
    runner.load_with(1, "p", counting());
    let chain = runner.chain("route#1#x#1", &[("p", "a")]);
    runner.load_with(2, "p", counting());
    let again = |chain: &Arc<Chain>| {
        let chains = vec![Arc::clone(chain)];
        runner.assembler.assemble_all(chains, PATIENCE);
    };
    again(&chain);
    assert_eq!((numbers(&chain), imported()), (vec![2], vec![(2, 1)]));
    again(&chain);
    assert_eq!(imported().len(), 1, "once");
    // Another value or route has no predecessor; a new version of the key has one.
    let others = [("route#1#x#1", "b"), ("route#2#x#1", "a")];
    let _others = others.map(|(key, value)| runner.chain(key, &[("p", value)]));
    assert_eq!(imported().len(), 1);
    runner.load_with(3, "p", counting());
    let _edited = runner.chain("route#1#x#2", &[("p", "a")]);
    assert_eq!(imported()[1..], [(5, 2)]);
}

#[test]
fn a_state_that_is_late_holds_up_the_swap_for_a_moment_only() {
    static GATE: Gate = Gate::new();
    extern "C" fn hang(_: Handle, _: Handle) -> Outcome {
        GATE.wait();
        Outcome::made(Handle::NONE)
    }
    let runner = Runner::new();
    let hanging = Functions {
        export_state: hang,
        ..Functions::default()
    };
    runner.load_with(1, "p", hanging);
    let chain = runner.chain("route#1#x#1", &[("p", "a")]);
    let (counting, imported) = counting!();
    runner.load_with(2, "p", counting());
    let chains = vec![Arc::clone(&chain)];
    runner.assembler.assemble_all(chains, PATIENCE);
    assert_eq!((numbers(&chain), imported()), (vec![2], vec![]));
    GATE.open();
}

#[test]
fn states_go_to_another_worker_whether_or_not_their_confs_are_there_already() {
    let (counting, imported) = counting!();
    let (old, new) = (Runner::new(), Runner::new());
    old.load_with(1, "p", counting());
    let _old = ["1", "2"].map(|route| old.chain(&format!("route#{route}#x#1"), &[("p", "a")]));
    let mut states = old.assembler.export_states(PATIENCE);
    states.sort_by_key(|state| state.version);
    let found: Vec<_> = states
        .iter()
        .map(|state| {
            (
                state.plugin.as_str(),
                state.route_key.as_str(),
                state.version,
            )
        })
        .collect();
    assert_eq!(found, [("p", "route#1#x#1", 1), ("p", "route#2#x#1", 2)]);

    new.load_with(1, "p", counting());
    let _first = new.chain("route#1#x#1", &[("p", "a")]);
    new.assembler.import_states(states);
    assert_eq!(imported(), [(3, 1)]);
    let _second = new.chain("route#2#x#9", &[("p", "a")]);
    assert_eq!(imported(), [(3, 1), (4, 2)]);
}

#[test]
fn in_the_next_worker_it_stays_there_until_a_newer_one_accepts_it() {
    let old = Runner::new();
    old.load(1, "q", accept);
    old.load(2, "p", accept);
    let both = [("q", "{}"), ("p", "{}")];
    let chain = old.chain("route#1#x#1", &both);
    assert_eq!(old.stays(), []);
    old.load(3, "p", refuse);
    old.assembler
        .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
    assert_eq!(old.stays(), [(1, 2)]);

    let new = Runner::new();
    let older = new.assembler.older();
    older.inherit(chain.conf.digest(), old.told.0.lock().unwrap().clone());
    new.load(1, "q", accept);
    new.load(3, "p", refuse);
    let early = new.chain("route#1#x#1", &both);
    assert_eq!(numbers(&early), [1], "its build is not loaded yet");
    older.add(&generation(2, "p", "p.so", Functions::default()));
    let again = new.chain("route#1#x#1", &both);
    assert_eq!(numbers(&again), [1, 2]);
    let another = new.chain("route#2#x#1", &both);
    assert_eq!(numbers(&another), [1], "it was refused before, too");
    new.load(4, "p", accept);
    *new.told.0.lock().unwrap() = vec![Stay {
        index: 9,
        generation: 9,
    }];
    new.assembler.assemble_all(vec![again], PATIENCE);
    assert_eq!(new.stays(), [], "nobody needs the older build any more");
}

#[test]
fn all_confs_of_a_plugin_in_a_chain_get_one_build_whatever_is_loaded_meanwhile() {
    static GATE: Gate = Gate::new();
    extern "C" fn hang(_: Handle, _: Bytes, _: Bytes) -> Outcome {
        GATE.wait();
        Outcome::made(Handle::NONE)
    }
    let runner = Runner::new();
    runner.load(1, "p", hang);
    let chain = chain("route#1#x#1", &[("p", "first"), ("p", "second")]);
    let assembling = runner.assembler.assemble(Arc::clone(&chain));
    wait("configure runs", || GATE.inside.load(Ordering::SeqCst) == 1);
    runner.load(2, "p", accept);
    GATE.open();
    runner.assembler.wait(vec![assembling], PATIENCE);
    assert_eq!(numbers(&chain), [1, 1]);
    runner
        .assembler
        .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
    assert_eq!(numbers(&chain), [2, 2]);
}

#[test]
fn where_one_conf_of_a_plugin_stays_on_an_older_build_the_others_of_the_chain_stay_with_it() {
    static CONFS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn refuse_every_second(_: Handle, _: Bytes, _: Bytes) -> Outcome {
        match CONFS.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => Outcome::made(Handle::NONE),
            _ => Outcome::refused("not like this".to_owned()),
        }
    }
    let runner = Runner::new();
    runner.load(1, "p", accept);
    runner.load(2, "q", accept);
    let confs = [("p", "first"), ("q", "other"), ("p", "second")];
    let chain = runner.chain("route#1#x#1", &confs);
    runner.load(3, "p", refuse_every_second);
    runner.load(4, "q", accept);
    runner
        .assembler
        .assemble_all(vec![Arc::clone(&chain)], PATIENCE);
    assert_eq!(numbers(&chain), [1, 4, 1]);
}
