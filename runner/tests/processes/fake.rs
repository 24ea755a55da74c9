//! Stands in for everything that runs plugin code: "libraries" are the C library with a word at their end that says
//! what loading them does, and "calls" are lines of text.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{io, process, thread};

use plugin_runner::config::{Config, Level, StartOptions};
use plugin_runner::plugins::blame;
use plugin_runner::request::assign::{AssignToken, Stay};
use plugin_runner::request::conf::Conf;
use plugin_runner::supervise;
use plugin_runner::supervise::workshop::{self, Examine, LoadedPlugin, Refusal, Served, Workshop};

const MARK: &[u8] = b"\n#fake:";

/// What a library does when it is loaded.
pub(crate) struct Library(String);

impl Library {
    pub(crate) fn good(name_and_version: &str) -> Self {
        Self(format!("good {name_and_version}"))
    }

    pub(crate) fn refused(cause: &str) -> Self {
        Self(format!("refused {cause}"))
    }

    pub(crate) fn crashing() -> Self {
        Self("crash".to_owned())
    }

    pub(crate) fn hanging() -> Self {
        Self("hang".to_owned())
    }

    /// Does something in its probe: `abort`, `exit`, `hang`, `daemon` at the step `open`, `start` or `drop`.
    pub(crate) fn bad_in_probe(what: &str, step: &str, name_and_version: &str) -> Self {
        Self(format!("{what}@{step} good {name_and_version}"))
    }

    /// Does in its probe what the values of its confs say.
    pub(crate) fn good_but_for_confs(name_and_version: &str) -> Self {
        Self(format!("conf good {name_and_version}"))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.contains("/libc.so")).unwrap();
        let library = fs::read(&line[line.find('/').unwrap()..]).unwrap();
        [&library, MARK, self.0.as_bytes()].concat()
    }
}

pub(crate) fn start(options: &str, config: &str) {
    let options = StartOptions {
        no_supervisor: options.contains("no_supervisor"),
        exit_with_parent: options.contains("exit_with_parent"),
    };
    let config = serde_json::from_str(config).unwrap();
    supervise::start(config, options, &factory).unwrap();
}

pub(crate) fn worker() {
    supervise::worker::main(&factory).unwrap();
}

pub(crate) fn probe() {
    supervise::probe::main(&|_| Box::new(Probed::default())).unwrap();
}

#[derive(Default)]
struct Probed {
    what: String,
    plugin: String,
}

impl Probed {
    fn step(&self, step: &str) {
        if let Some((what, at)) = self.what.split_once('@')
            && at == step
        {
            trouble(what);
        }
    }
}

fn trouble(what: &str) {
    match what {
        "abort" => process::abort(),
        "exit" => process::exit(0),
        "hang" => loop {
            thread::park();
        },
        // Something that outlives its parent.
        "daemon" => {
            let sleeping = process::Command::new("sleep").arg("1000").spawn();
            println!("daemon {}", sleeping.unwrap().id());
            process::abort();
        }
        _ => {}
    }
}

impl Examine for Probed {
    fn check(&mut self, library: &workshop::Library) -> Result<(), Refusal> {
        let what = what(library)?;
        match what.split_once(" good ") {
            Some((what, plugin)) => (self.what, self.plugin) = (what.into(), plugin.into()),
            None => self.plugin = what.trim_start_matches("good ").to_owned(),
        }
        self.plugin.truncate(self.plugin.find(' ').unwrap_or(0));
        Ok(())
    }

    fn open(&mut self) -> Result<(), Refusal> {
        self.step("open");
        Ok(())
    }

    fn start(&mut self) -> Result<Vec<LoadedPlugin>, Refusal> {
        self.step("start");
        Ok(vec![LoadedPlugin {
            name: self.plugin.clone(),
            version: String::new(),
            priority: 0,
            phases: Vec::new(),
        }])
    }

    fn configure(&mut self, payload: &[u8]) -> Result<(), String> {
        let conf = Conf::read(payload).unwrap();
        for conf in conf.plugins {
            match conf.value.as_slice() {
                b"refuse" => return Err("not this".to_owned()),
                _ if self.what != "conf" => {}
                value => trouble(std::str::from_utf8(value).unwrap()),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.step("drop");
    }
}

fn what(library: &workshop::Library) -> Result<String, Refusal> {
    let refusal = |cause: String| Refusal { cause, hint: None };
    let bytes = fs::read(&library.path).map_err(|error| refusal(error.to_string()))?;
    let mark = bytes
        .windows(MARK.len())
        .rposition(|found| found == MARK)
        .unwrap();
    Ok(String::from_utf8(bytes[mark + MARK.len()..].to_vec()).unwrap())
}

fn factory(_: Config, assign: Arc<dyn AssignToken>) -> anyhow::Result<Arc<dyn Workshop>> {
    Ok(Arc::new(Fake(Arc::new(Inside {
        assign,
        plugins: Mutex::default(),
        generations: Mutex::default(),
        confs: Mutex::default(),
        draining: AtomicBool::new(false),
        in_flight: AtomicUsize::new(0),
        changed: Condvar::new(),
        accepting: Mutex::new(false),
    }))))
}

struct Fake(Arc<Inside>);

struct Inside {
    assign: Arc<dyn AssignToken>,
    plugins: Mutex<BTreeMap<PathBuf, String>>,
    generations: Mutex<BTreeMap<String, u64>>,
    confs: Mutex<Vec<u32>>,
    draining: AtomicBool,
    in_flight: AtomicUsize,
    /// Signalled when something of this ended.
    changed: Condvar,
    accepting: Mutex<bool>,
}

impl Workshop for Fake {
    fn load(&self, library: &workshop::Library) -> Result<Vec<LoadedPlugin>, Refusal> {
        let refusal = |cause: String| Refusal { cause, hint: None };
        let what = what(library)?;
        let what = &what[what.find("good ").unwrap_or(0)..];
        match what.split_once(' ') {
            Some(("good", plugin)) => {
                let (name, version) = plugin.split_once(' ').unwrap();
                let mut plugins = self.0.plugins.lock().unwrap();
                plugins.insert(library.file.clone(), plugin.to_owned());
                let mut generations = self.0.generations.lock().unwrap();
                generations.insert(name.to_owned(), library.generation);
                Ok(vec![LoadedPlugin {
                    name: name.to_owned(),
                    version: version.to_owned(),
                    priority: 0,
                    phases: Vec::new(),
                }])
            }
            Some((_, cause)) => Err(refusal(cause.to_owned())),
            None if what == "crash" => {
                let opening = blame::activity::OPEN;
                blame::during(library.generation, opening, 0, || process::abort())
            }
            None => loop {
                thread::park();
            },
        }
    }

    fn load_older(&self, _: &workshop::Library) -> Result<Vec<LoadedPlugin>, Refusal> {
        Ok(Vec::new())
    }

    fn stays(&self, _: workshop::Sha256, _: Vec<Stay>) {}

    fn forbid(&self, _: u64) {}

    fn unload(&self, file: &Path) {
        self.0.plugins.lock().unwrap().remove(file);
    }

    fn conf(&self, token: u32, payload: Vec<u8>) {
        assert!(!payload.is_empty());
        self.0.confs.lock().unwrap().push(token);
    }

    fn bind(&self, _: Vec<plugin_runner::config::Binding>) {}

    fn serve(
        &self,
        listener: OwnedFd,
        _: &Served,
        _: Duration,
        _: Option<OwnedFd>,
    ) -> io::Result<()> {
        let inside = Arc::clone(&self.0);
        *inside.accepting.lock().unwrap() = true;
        thread::spawn(move || accept(&UnixListener::from(listener), &inside));
        Ok(())
    }

    fn drain(&self, within: Duration) {
        self.0.draining.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + within;
        let mut accepting = self.0.accepting.lock().unwrap();
        while *accepting || self.0.in_flight.load(Ordering::SeqCst) > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            accepting = self.0.changed.wait_timeout(accepting, left).unwrap().0;
        }
    }

    /// Its connections end with their one answer: none is ever between two calls.
    fn hand_over(&self, _: OwnedFd, _: Option<OwnedFd>, within: Duration) -> workshop::HandedOver {
        self.drain(within);
        workshop::HandedOver::default()
    }

    fn adopt(&self, _: OwnedFd) -> io::Result<()> {
        Ok(())
    }

    fn export_states(&self, _: OwnedFd) {}

    fn stuck_threads(&self) -> usize {
        0
    }

    fn set_level(&self, _: Level) {}

    fn report(&self, _: bool) -> workshop::Report {
        workshop::Report {
            connections: self.0.in_flight.load(Ordering::SeqCst),
            ..workshop::Report::default()
        }
    }
}

fn accept(listener: &UnixListener, inside: &Arc<Inside>) {
    loop {
        let mut readable = [rustix::event::PollFd::new(
            listener,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: 5_000_000,
        };
        rustix::event::poll(&mut readable, Some(&patience)).unwrap();
        match listener.accept() {
            Ok((connection, _)) => {
                inside.in_flight.fetch_add(1, Ordering::SeqCst);
                let inside = Arc::clone(inside);
                thread::spawn(move || {
                    answer(connection, &inside);
                    inside.in_flight.fetch_sub(1, Ordering::SeqCst);
                    drop(inside.accepting.lock().unwrap());
                    inside.changed.notify_all();
                });
            }
            Err(_) if inside.draining.load(Ordering::SeqCst) => break,
            Err(_) => {}
        }
    }
    *inside.accepting.lock().unwrap() = false;
    inside.changed.notify_all();
}

fn answer(connection: UnixStream, inside: &Inside) {
    let mut line = String::new();
    if BufReader::new(&connection).read_line(&mut line).unwrap() == 0 {
        return;
    }
    let line = line.trim_end();
    let status = |key: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line[key.len() + 1..].trim().to_owned()
    };
    let answer = match line.split_once(' ').unwrap_or((line, "")) {
        ("plugins", _) => {
            let plugins = inside.plugins.lock().unwrap();
            plugins.values().cloned().collect::<Vec<_>>().join(",")
        }
        ("confs", _) => {
            let confs = inside.confs.lock().unwrap();
            confs
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(",")
        }
        ("uid", _) => status("Uid").split('\t').next().unwrap().to_owned(),
        ("groups", _) => status("Groups"),
        ("oom", _) => fs::read_to_string("/proc/self/oom_score_adj")
            .unwrap()
            .trim()
            .to_owned(),
        ("supervisor", _) => std::os::unix::process::parent_id().to_string(),
        ("pid", _) => process::id().to_string(),
        ("in", _) => inside.in_flight.load(Ordering::SeqCst).to_string(),
        ("assign", hex) => {
            let bytes = (0..hex.len()).step_by(2);
            let payload: Vec<_> = bytes
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            inside.assign.assign(&payload).unwrap().to_string()
        }
        ("forget", token) => {
            inside.assign.forget(token.parse().unwrap());
            "forgotten".to_owned()
        }
        ("print", _) => {
            println!("hello from a plugin");
            "printed".to_owned()
        }
        ("log", _) => {
            tracing::info!("an event of the worker");
            "logged".to_owned()
        }
        ("slow", _) => {
            while !inside.draining.load(Ordering::SeqCst) {
                thread::park_timeout(Duration::from_millis(1));
            }
            "done".to_owned()
        }
        ("stuck", _) => loop {
            thread::park();
        },
        ("crash", "") => process::abort(),
        ("crash", plugin) => {
            let generation = inside.generations.lock().unwrap()[plugin];
            blame::during(generation, 3, 0, || process::abort())
        }
        other => panic!("{other:?}"),
    };
    let _ = writeln!(&connection, "{answer}");
}
