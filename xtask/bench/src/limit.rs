//! The limit: a server that reads a frame and writes the same bytes each time, with epoll and nothing else. No runner
//! can be faster on one thread.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use e2e::gateway::frame;
use e2e::message::{EXTRA_INFO, HTTP_RESP_CALL, Response, answer_payload};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

/// Marks the listener among the connections.
const LISTENER: u64 = u64::MAX;

/// Bytes that are read at once, at most.
pub(crate) const ROOM: usize = 1 << 16;

/// A connection of the limit.
pub(crate) struct Connection {
    stream: UnixStream,
    /// Bytes of the frame that are still to come, header included; 0 between two frames.
    missing: usize,
}

/// Serves until it is killed.
///
/// # Errors
/// The socket cannot be bound, or epoll fails.
pub fn serve(socket: &Path, reply: &[u8]) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&poll, &listener, LISTENER)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut room = vec![0; ROOM];
    loop {
        events.clear();
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        for event in &events {
            match event.data.u64() {
                LISTENER => {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true)?;
                        watch(&poll, &stream, connections.len() as u64)?;
                        connections.push(Some(Connection::new(stream)));
                    }
                }
                number => turn(&mut connections[number as usize], &mut room, reply),
            }
        }
    }
}

/// Lets the connection read and reply; closes it if it has ended.
pub(crate) fn turn(connection: &mut Option<Connection>, room: &mut [u8], reply: &[u8]) {
    if connection.as_mut().is_some_and(|it| !it.turn(room, reply)) {
        *connection = None;
    }
}

/// Watches for bytes from `source`.
pub(crate) fn watch(poll: impl AsFd, source: impl AsFd, number: u64) -> Result<()> {
    let data = epoll::EventData::new_u64(number);
    epoll::add(poll, source, data, epoll::EventFlags::IN).context("epoll")
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, missing: 0 }
    }

    /// Reads once, and replies if the frame is whole. `false`: it has ended.
    pub(crate) fn turn(&mut self, room: &mut [u8], reply: &[u8]) -> bool {
        let read = match self.stream.read(room) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        if self.missing == 0 {
            let [_, a, b, c] = [room[0], room[1], room[2], room[3]];
            self.missing = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        }
        self.missing = self.missing.saturating_sub(read);
        self.missing > 0 || self.stream.write_all(reply).is_ok()
    }
}

/// Serves until it is killed: asks for a body, reads it, and replies with `size` bytes; a thread for each connection.
///
/// # Errors
/// The socket cannot be bound.
pub fn serve_bodies(socket: &Path, size: usize) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    let headers = [("content-type", "text/plain")];
    let question = frame(EXTRA_INFO, &answer_payload(None));
    let body = vec![b'y'; size];
    let mut reply = Response::new(200, &headers).payload(0);
    reply.extend_from_slice(&body);
    let reply = Arc::new(frame(HTTP_RESP_CALL, &reply[..size.min((1 << 24) - 1)]));
    let question = Arc::new(question);
    for stream in listener.incoming() {
        let (mut stream, question, reply) = (stream?, Arc::clone(&question), Arc::clone(&reply));
        std::thread::spawn(move || {
            let mut room = Vec::new();
            let mut head = [0; 4];
            while stream.read_exact(&mut head).is_ok() {
                let [kind, a, b, c] = head;
                room.resize(u32::from_be_bytes([0, a, b, c]) as usize, 0);
                let answer = if kind == EXTRA_INFO {
                    &reply
                } else {
                    &question
                };
                if stream.read_exact(&mut room).is_err() || stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}
