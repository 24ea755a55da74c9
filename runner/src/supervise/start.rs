//! From a configuration to a running supervisor: socket first, so that connects wait instead of failing.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use anyhow::Context;
use plugin_api::{ABI_MAJOR, ABI_MINOR};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::accounts::Identity;
use super::admin::{self, Admin};
use super::backoff::Backoff;
use super::fingerprint::Trust;
use super::last_good::{LastGood, Store};
use super::parent::Parent;
use super::prober::Prober;
use super::quarantine::{Quarantine, Rule};
use super::reach::closed_folder;
use super::signals::Signals;
use super::socket::Socket;
use super::spawn::Host;
use super::staging::{Place, Staging};
use super::state::StateDir;
use super::supervisor::bindings::Bindings;
use super::supervisor::{
    Event, Libraries, Older, Questions, Recycles, Since, Stager, Supervisor, Untold,
};
use super::tokens::Tokens;
use super::verdicts::Verdicts;
use super::watch::Watch;
use super::workshop::Factory;
use super::{descriptors, heap, privileges, worker};
use crate::config::{Config, StartOptions};
use crate::telemetry::{Sink, Style, Telemetry};

/// Sets up the log and runs until a signal or the gateway's end. On the main thread, before any other thread.
///
/// `factory` makes the inside of the worker if it lives in this process; a worker process calls
/// [`super::worker::main`].
///
/// # Errors
/// When there is no log, no socket, no worker, or a configured user does not exist.
pub fn start(config: Config, options: StartOptions, factory: &Factory) -> anyhow::Result<()> {
    heap::keep_few();
    let sink = Sink::of(&config.logging);
    let style = Style::of(config.logging.format, &sink);
    let telemetry = Telemetry::init(config.logging.level, style, sink)?;
    run(config, options, Arc::new(telemetry), factory)
}

fn run(
    config: Config,
    options: StartOptions,
    telemetry: Arc<Telemetry>,
    factory: &Factory,
) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("plugin-runner {version}, plugin ABI {ABI_MAJOR}.{ABI_MINOR}");
    if let Err(cause) = descriptors::close_on_exec() {
        tracing::warn!(cause = %cause, "descriptors of the parent may reach the worker");
    }
    if let Err(cause) = descriptors::allow_many() {
        tracing::debug!(cause = %cause, "the limit of open files stays as it was");
    }
    if !options.no_supervisor {
        return supervise(config, options, telemetry, Host::Processes);
    }
    let (offer, workers) = mpsc::channel();
    let supervising = move || supervise(config, options, telemetry, Host::Here(offer));
    let supervising = thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(supervising)?;
    let worked = work_here(&workers, factory);
    drop(workers);
    match supervising.join() {
        Ok(supervised) => worked.and(supervised),
        Err(_) => anyhow::bail!("the supervisor panicked"),
    }
}

/// Is the worker, until the supervisor has ended.
fn work_here(workers: &mpsc::Receiver<UnixStream>, factory: &Factory) -> anyhow::Result<()> {
    for control in workers {
        worker::serve_in_process(control, factory)?;
    }
    Ok(())
}

fn supervise(
    config: Config,
    options: StartOptions,
    telemetry: Arc<Telemetry>,
    host: Host,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        // First of all, so that a signal during the start is not lost.
        let signals = Signals::listen().context("cannot listen to signals")?;
        let (events, inbox) = unbounded_channel();
        let parent = Parent::to_follow(options.exit_with_parent);
        if let Some(parent) = &parent {
            let events = events.clone();
            parent.watch(move || drop(events.send(Event::ParentGone)));
        }
        let supervisor = prepare(config, telemetry, host, parent, events)?;
        supervisor
            .run(inbox, signals)
            .await
            .context("cannot start a worker")
    })
}

fn prepare(
    config: Config,
    telemetry: Arc<Telemetry>,
    host: Host,
    parent: Option<Parent>,
    events: UnboundedSender<Event>,
) -> anyhow::Result<Supervisor> {
    let identity = match host {
        Host::Processes => privileges::identity(config.worker.user.as_deref())?,
        Host::Here(_) => None,
    };
    // Before the socket is taken over: with a fault, whoever serves goes on.
    let bindings = Bindings::start(&config, &events)?;
    // Before the socket, too: a runner that had its path before us asks whoever has it now.
    let state = open_state(&config);
    let admin = open_admin(&config, state.as_ref(), &events);
    let socket = Socket::listen(&config.socket)?;
    tracing::info!("listening on {}", socket.path().display());
    hint_at_reach(&socket, config.socket.mode);
    let place = place(state.as_ref(), identity);
    let tokens = Tokens::open(config.tokens.max, config.tokens.expire, state.as_ref());
    let kept = Kept {
        quarantine: quarantine(&config, state.as_ref()),
        good: LastGood::open(state.as_ref()),
    };
    let mut libraries = libraries(&config, place, kept, &events)?;
    if let Host::Processes = host {
        let verdicts = Verdicts::open(state.as_ref());
        libraries.prober = Some(Prober::start(verdicts, telemetry.lines(), events.clone())?);
    }
    Ok(Supervisor {
        identity,
        host,
        telemetry,
        socket,
        tokens,
        parent,
        events,
        libraries,
        bindings,
        worker: None,
        last_worker: 0,
        recycles: Recycles::new(config.worker.recycle_interval),
        untold: Untold::default(),
        draining: BTreeSet::new(),
        backoff: Backoff::default(),
        announced: false,
        stopping: None,
        asking_successor: false,
        usurper: None,
        giving_back: false,
        since: Since::now(),
        questions: Questions::default(),
        admin,
        config,
    })
}

/// Gateway: its workers run as nobody. Without root it is likely that gateway and runner are one user's.
fn hint_at_reach(socket: &Socket, mode: u32) {
    let obstacle = match closed_folder(socket.path()) {
        Some(folder) => format!("{} is closed to it (chmod o+x)", folder.display()),
        None if mode & 0o002 == 0 => format!("socket.mode is {mode:o}"),
        None => return,
    };
    let hint = format!("a gateway that runs as another user (nobody) cannot connect: {obstacle}");
    match rustix::process::geteuid().is_root() {
        true => tracing::warn!("{hint}"),
        false => tracing::info!("{hint}"),
    }
}

fn open_admin(
    config: &Config,
    state: Option<&StateDir>,
    events: &UnboundedSender<Event>,
) -> Option<Admin> {
    let place = admin::place::Place::of_this_process(config, state);
    let path = place.path();
    let events = events.clone();
    let ask = move |request, gift, reply| {
        drop(events.send(Event::Question(request, gift, reply)));
    };
    let opened = Admin::listen(place, ask);
    opened
        .inspect_err(|cause| {
            tracing::warn!(
                cause = %cause,
                "nobody can ask how it goes (`plugin-runner status`): {} cannot be had",
                path.display()
            );
        })
        .ok()
}

fn open_state(config: &Config) -> Option<StateDir> {
    let hint = "set state.dir to a folder that only the runner's user may write; until then copies and conf tokens \
                are kept in memory";
    let Some(path) = &config.state.dir else {
        tracing::warn!(hint, "there is no state.dir");
        return None;
    };
    StateDir::open(path)
        .inspect_err(|error| tracing::warn!(hint, "{error}"))
        .ok()
}

/// Where copies go, if a worker of this identity can open them there.
fn place(state: Option<&StateDir>, identity: Option<Identity>) -> Place {
    let Some(state) = state else {
        return Place::Memory;
    };
    let instead = "copies of libraries are kept in memory";
    if state.is_noexec() {
        let path = state.path().display();
        tracing::warn!("{instead}: state.dir {path} is mounted noexec");
        return Place::Memory;
    }
    let inside = state.path().join("libraries");
    if let (Some(identity), Some(closed)) = (identity, closed_folder(&inside)) {
        let (uid, closed) = (identity.uid, closed.display());
        tracing::warn!("{instead}: user {uid} cannot read state.dir, {closed} is closed to it");
        return Place::Memory;
    }
    Place::folder(state).unwrap_or_else(|error| {
        tracing::warn!("{instead}: {error}");
        Place::Memory
    })
}

fn quarantine(config: &Config, state: Option<&StateDir>) -> Quarantine {
    let rule = Rule {
        crashes: config.plugins.quarantine_crashes,
        window: config.plugins.quarantine_window,
    };
    // Opened once more, so that it has a handle of its own.
    let folder = state.and_then(|state| StateDir::open(state.path()).ok());
    Quarantine::open(rule, folder)
}

/// What earlier runners left.
struct Kept {
    quarantine: Quarantine,
    good: (LastGood, Option<Store>),
}

fn libraries(
    config: &Config,
    place: Place,
    kept: Kept,
    events: &UnboundedSender<Event>,
) -> anyhow::Result<Libraries> {
    let trust = Trust {
        root: rustix::process::geteuid().is_root(),
        allow_writable: config.plugins.allow_writable,
    };
    let (good, store) = kept.good;
    let staging = Staging {
        place,
        trust,
        allow: config.plugins.allow.clone(),
        known: good.known(store.as_ref()),
        seen: Mutex::default(),
    };
    let mut libraries = Libraries {
        reload: super::reload::Reload::default(),
        stager: Stager::start(staging, store, events.clone())?,
        prober: None,
        quarantine: kept.quarantine,
        good,
        unusable: HashSet::new(),
        forgot: false,
        hung: BTreeSet::new(),
        recalled: HashMap::new(),
        by_hand: HashMap::new(),
        watch: None,
        looked_at_until: None,
        served: BTreeMap::new(),
        offers: BTreeMap::new(),
        refusals: BTreeMap::new(),
        probe_again: HashSet::new(),
        copies: HashMap::new(),
        seen: HashMap::new(),
        retired: Vec::new(),
        older: Older::default(),
        fault: None,
    };
    let Some(folder) = &config.plugins.dir else {
        tracing::warn!(
            hint = "set plugins.dir, or start with --plugins",
            "no plugins folder"
        );
        libraries.reload.scan_failed();
        return Ok(libraries);
    };
    tracing::info!("plugins from {}", folder.display());
    let events = events.clone();
    let report = move |scan| events.send(Event::Scanned(scan)).is_ok();
    libraries.watch = Some(Watch::start(folder.clone(), trust, report)?);
    Ok(libraries)
}
