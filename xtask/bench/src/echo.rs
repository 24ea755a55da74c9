//! What the limit does, on other kinds and numbers of event loops: each reads a frame and writes the same bytes. The limit
//! itself, one thread with epoll, is in `limit`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};

use crate::limit::{self, Connection, ROOM};

/// Room of a thread that serves one connection. It only calls `read` and `write`.
const STACK: usize = 128 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; ROOM]);
}

/// The kinds, as [`serve`] takes them.
pub const KINDS: [&str; 6] = [
    "epoll-1",
    "epoll-2",
    "tokio-1",
    "tokio-2",
    "tokio-multi-2",
    "threads",
];

/// Serves on event loops of this kind until it is killed.
///
/// # Errors
/// There is no such kind, the socket cannot be bound, or there are no threads or descriptors.
pub fn serve(kind: &str, socket: &Path, reply: &[u8]) -> Result<()> {
    let reply: Arc<[u8]> = reply.into();
    match kind {
        "epoll-1" => limit::serve(socket, &reply),
        "epoll-2" => epolls(socket, &reply, 2),
        "tokio-1" => current_threads(socket, &reply, 1),
        "tokio-2" => current_threads(socket, &reply, 2),
        "tokio-multi-2" => multi_thread(socket, &reply, 2),
        "threads" => threads(socket, &reply),
        _ => bail!("there is no echo `{kind}`: {}", KINDS.join(", ")),
    }
}

/// Raw epoll on several threads. Connections are dealt out by a further one, which is idle afterwards.
fn epolls(socket: &Path, reply: &Arc<[u8]>, count: usize) -> Result<()> {
    let mut loops = Vec::new();
    for _ in 0..count {
        let poll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let (give, take) = mpsc::channel();
        let (own, reply) = (Arc::clone(&poll), Arc::clone(reply));
        thread::spawn(move || epoll_loop(&own, &take, &reply));
        loops.push((poll, give, 0));
    }
    for (number, stream) in UnixListener::bind(socket)?.incoming().enumerate() {
        let (poll, give, known) = &mut loops[number % count];
        let stream = stream?;
        stream.set_nonblocking(true)?;
        let watched = stream.try_clone()?;
        // Sent first: the loop looks for it when the first event comes.
        give.send(Connection::new(stream)).context("a loop ended")?;
        limit::watch(&**poll, &watched, *known)?;
        *known += 1;
    }
    Ok(())
}

fn epoll_loop(
    poll: &rustix::fd::OwnedFd,
    arriving: &mpsc::Receiver<Connection>,
    reply: &[u8],
) -> Result<()> {
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut room = vec![0; ROOM];
    loop {
        events.clear();
        epoll::wait(poll, spare_capacity(&mut events), None)?;
        connections.extend(arriving.try_iter().map(Some));
        for event in &events {
            let connection = &mut connections[event.data.u64() as usize];
            limit::turn(connection, &mut room, reply);
        }
    }
}

/// A current-thread runtime on each of several threads.
fn current_threads(socket: &Path, reply: &Arc<[u8]>, count: usize) -> Result<()> {
    let mut handles = Vec::new();
    for _ in 0..count {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        handles.push(runtime.handle().clone());
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    }
    deal(socket, reply, &handles)
}

/// One runtime that moves tasks between its threads.
fn multi_thread(socket: &Path, reply: &Arc<[u8]>, count: usize) -> Result<()> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(count).enable_io().build()?;
    deal(socket, reply, &[runtime.handle().clone()])
}

fn deal(socket: &Path, reply: &Arc<[u8]>, runtimes: &[Handle]) -> Result<()> {
    for (number, stream) in UnixListener::bind(socket)?.incoming().enumerate() {
        let stream = stream?;
        stream.set_nonblocking(true)?;
        let reply = Arc::clone(reply);
        // One that fails ends its connection, and the client says so.
        runtimes[number % runtimes.len()].spawn(async move { serve_task(stream, &reply).await });
    }
    Ok(())
}

#[expect(
    deprecated,
    reason = "its successor differs only in being `unsafe`: the task owns the stream it watches"
)]
async fn serve_task(stream: UnixStream, reply: &[u8]) -> std::io::Result<()> {
    let watched = AsyncFd::with_interest(stream.try_clone()?, Interest::READABLE)?;
    let mut connection = Connection::new(stream);
    loop {
        let mut ready = poll_fn(|context| watched.poll_read_ready(context)).await?;
        // As in the limit: a frame comes in one piece, so there is nothing more to read.
        if !BUFFER.with_borrow_mut(|room| connection.turn(room, reply)) {
            return Ok(());
        }
        ready.clear_ready();
    }
}

/// A thread for each connection.
fn threads(socket: &Path, reply: &Arc<[u8]>) -> Result<()> {
    for stream in UnixListener::bind(socket)?.incoming() {
        let (mut connection, reply) = (Connection::new(stream?), Arc::clone(reply));
        let thread = thread::Builder::new().stack_size(STACK);
        thread.spawn(move || {
            let mut room = vec![0; 4 << 10];
            while connection.turn(&mut room, &reply) {}
        })?;
    }
    Ok(())
}
