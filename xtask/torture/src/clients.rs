//! The gateway's side: many connections, one call in flight on each, every answer checked. One thread.

mod connection;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::gateway::Gateway;
use e2e::message::{PREPARE_CONF, read_token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use self::connection::Connection;
use crate::ledger::{Effort, Ledger};
use crate::routes::{Route, uncalled};

/// The loop looks this often at who wants to send.
const TICK: Duration = Duration::from_millis(1);

/// What a load consists of.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the runner listens.
    pub socket: PathBuf,
    /// Connections.
    pub connections: usize,
    /// Between an answer and the next call of its connection.
    pub pause: Duration,
    /// What is called.
    pub routes: Vec<Route>,
}

/// What all connections of a load have in common.
pub(crate) struct Common {
    socket: PathBuf,
    pause: Duration,
    /// With their tokens.
    routes: Vec<(Route, u32)>,
    ledger: Arc<Ledger>,
    /// When the newest crash happened that no answer of the next worker has come after, and its number. As long as the
    /// worker before it answers, it has not happened yet: a plugin may take its time for it.
    crash: Arc<Crash>,
}

type Crash = Mutex<Option<(u64, Instant)>>;

/// A load that runs.
#[derive(Debug)]
pub struct Clients {
    thread: Option<JoinHandle<Result<()>>>,
    ledger: Arc<Ledger>,
    crash: Arc<Crash>,
}

impl Clients {
    /// Prepares the routes and begins to call.
    ///
    /// # Errors
    /// The runner refuses a route, or there is no thread or descriptor to be had.
    pub fn start(load: Load, ledger: &Arc<Ledger>) -> Result<Self> {
        let mut gateway = Gateway::connect(&load.socket).patient();
        let tokens = load.routes.iter().map(|route| prepare(&mut gateway, route));
        let tokens: Vec<_> = tokens.collect::<Result<_>>()?;
        gateway.send(PREPARE_CONF, &uncalled());
        let uncalled = gateway.receive().kind;
        ensure!(uncalled == PREPARE_CONF, "a route was refused");
        let crash = Arc::default();
        let common = Common {
            socket: load.socket,
            pause: load.pause,
            routes: load.routes.into_iter().zip(tokens).collect(),
            ledger: Arc::clone(ledger),
            crash: Arc::clone(&crash),
        };
        let connections = load.connections;
        let thread = std::thread::Builder::new().name("clients".to_owned());
        Ok(Self {
            thread: Some(thread.spawn(move || run(&common, connections))?),
            ledger: Arc::clone(ledger),
            crash,
        })
    }

    /// A crash has number `number` and begins now.
    pub fn crashed(&self, number: u64) {
        *lock(&self.crash) = Some((number, Instant::now()));
    }

    /// Whether a right answer has come since the newest crash.
    pub fn is_recovered(&self) -> bool {
        lock(&self.crash).is_none()
    }

    /// Ends it.
    ///
    /// # Errors
    /// It has ended itself: why.
    pub fn stop(&mut self) -> Result<()> {
        self.ledger.stop();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(ended) => ended,
            Err(_) => bail!("the clients panicked"),
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Whoever wants to know why has asked.
        let _ = self.stop();
    }
}

fn lock(crash: &Crash) -> std::sync::MutexGuard<'_, Option<(u64, Instant)>> {
    crash.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(gateway: &mut Gateway, route: &Route) -> Result<u32> {
    gateway.send(PREPARE_CONF, &route.prepare());
    let frame = gateway.receive();
    match frame.kind {
        PREPARE_CONF => read_token(&frame.payload).context("an answer without a token"),
        _ => bail!("a route was refused: {:?}", frame.reply()),
    }
}

fn run(common: &Common, count: usize) -> Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        connections.push(Connection::new(common, &poll, number)?);
    }
    let mut events = Vec::with_capacity(count);
    let tick = Timespec::try_from(TICK)?;
    let started = Instant::now();
    while !common.ledger.is_stopped() {
        for connection in &mut connections {
            connection.look(common, &poll)?;
        }
        events.clear();
        wait(&poll, &mut events, &tick)?;
        for event in &events {
            connections[event.data.u64() as usize].receive(common, &poll)?;
        }
    }
    common.ledger.client(Effort::of_this_thread(started));
    Ok(())
}

fn wait(poll: &OwnedFd, events: &mut Vec<epoll::Event>, tick: &Timespec) -> Result<()> {
    match epoll::wait(poll, spare_capacity(events), Some(tick)) {
        Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}
