//! The client: plays the gateway on a number of connections, one call in flight on each, and checks every answer.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::message::{EXTRA_INFO, PREPARE_CONF, answer_payload, read_token};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::call::{self, Check, Expected, Numbered};

/// An answer that takes longer ends the measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to call, and how.
#[derive(Debug, Clone)]
pub struct Calls {
    /// The measured call.
    pub request: Numbered,
    /// What answers have to be.
    pub expected: Expected,
}

/// What was counted.
#[derive(Debug)]
pub struct Counted {
    /// Calls that were answered rightly: all of them.
    pub calls: usize,
    /// From the first to the last of them.
    pub time: Duration,
    /// Of each call, in nanoseconds, in no order.
    pub latencies: Vec<u32>,
}

/// Connects and prepares a chain; returns its token.
///
/// # Errors
/// The runner refuses it, or there is none.
pub fn prepare(socket: &Path, conf: &[(String, String)]) -> Result<u32> {
    let mut stream = connect(socket)?;
    token_of(&ask(&mut stream, &call::prepare(conf))?)
}

/// Writes a frame and reads the next one, whatever it is.
///
/// # Errors
/// None comes.
pub fn ask(stream: &mut UnixStream, frame: &[u8]) -> Result<Vec<u8>> {
    stream.write_all(frame)?;
    read_frame(stream)
}

/// The token in the answer to PREPARE_CONF.
///
/// # Errors
/// It is another frame.
pub fn token_of(frame: &[u8]) -> Result<u32> {
    let (kind, payload) = (frame[0], &frame[4..]);
    ensure!(
        kind == PREPARE_CONF,
        "PREPARE_CONF was answered with a frame of kind {kind}"
    );
    read_token(payload).context("the answer to PREPARE_CONF has no token")
}

/// One call on a connection of its own; returns the answer's frame, which was checked.
///
/// # Errors
/// The answer is not what it has to be, or none comes.
pub fn one_call(socket: &Path, calls: &Calls) -> Result<Vec<u8>> {
    let mut stream = connect(socket)?;
    let mut request = calls.request.clone();
    let mut answer = ask(&mut stream, request.with(1))?;
    // Where there are bindings, a call asks where it belongs.
    while answer[0] == EXTRA_INFO {
        answer = ask(
            &mut stream,
            &e2e::gateway::frame(EXTRA_INFO, &answer_payload(None)),
        )?;
    }
    Check::new(calls.expected.clone()).answer(&answer, 1)?;
    Ok(answer)
}

/// Connects; a server that does not answer for long ends the measurement.
///
/// # Errors
/// Nobody accepts.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket);
    let stream = stream.with_context(|| format!("connecting to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn read_frame(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    frame.resize(length(&frame), 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// Bytes of a frame with its header, which `bytes` starts with.
fn length(bytes: &[u8]) -> usize {
    4 + u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]) as usize
}

/// Connections that make one call after the other.
pub struct Load {
    poll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
}

struct Connection {
    stream: UnixStream,
    request: Numbered,
    check: Check,
    id: u32,
    sent: Instant,
    input: Vec<u8>,
}

impl Load {
    /// Connects. Each connection makes one of `calls`, in turn.
    ///
    /// # Errors
    /// Nobody accepts.
    pub fn new(socket: &Path, calls: &[Calls], connections: usize) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut made = Vec::with_capacity(connections);
        for (number, calls) in calls.iter().cycle().take(connections).enumerate() {
            let stream = connect(socket)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&poll, &stream, data, epoll::EventFlags::IN)?;
            made.push(Connection {
                stream,
                request: calls.request.clone(),
                check: Check::new(calls.expected.clone()),
                // Far apart and with no zero byte, so that it is found in an answer.
                id: 0x4d5e_0001 + number as u32 * 0x1_0000,
                sent: Instant::now(),
                input: Vec::with_capacity(4096),
            });
        }
        Ok(Self {
            poll,
            connections: made,
        })
    }

    /// Calls for `time`, or until `most` calls were answered.
    ///
    /// # Errors
    /// An answer is not what it has to be, or does not come.
    pub fn run(&mut self, time: Duration, most: usize) -> Result<Counted> {
        let started = Instant::now();
        for connection in &mut self.connections {
            connection.send(started)?;
        }
        let mut latencies = Vec::with_capacity(1 << 19);
        let mut events = Vec::with_capacity(self.connections.len());
        let mut running = self.connections.len();
        let patience = Timespec::try_from(PATIENCE)?;
        while running > 0 {
            events.clear();
            epoll::wait(&self.poll, spare_capacity(&mut events), Some(&patience))?;
            if events.is_empty() {
                bail!("{running} calls were not answered within {PATIENCE:?}");
            }
            for event in &events {
                let connection = &mut self.connections[event.data.u64() as usize];
                if !connection.receive()? {
                    continue;
                }
                let now = Instant::now();
                let latency = now.duration_since(connection.sent).as_nanos();
                latencies.push(u32::try_from(latency).unwrap_or(u32::MAX));
                if now.duration_since(started) < time && latencies.len() + running <= most {
                    connection.send(now)?;
                } else {
                    running -= 1;
                }
            }
        }
        Ok(Counted {
            calls: latencies.len(),
            time: started.elapsed(),
            latencies,
        })
    }
}

impl Connection {
    fn send(&mut self, now: Instant) -> Result<()> {
        self.id = self.id.wrapping_add(1);
        self.sent = now;
        let frame = self.request.with(self.id);
        let written = self.stream.write(frame)?;
        ensure!(
            written == frame.len(),
            "the socket took {written} bytes of a call only"
        );
        Ok(())
    }

    /// Reads; whether the call is answered.
    fn receive(&mut self) -> Result<bool> {
        match rustix::io::read(&self.stream, spare_capacity(&mut self.input)) {
            Ok(0) => bail!("the server closed a connection in the middle of a call"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        while self.input.len() >= 4 && self.input.len() >= length(&self.input) {
            let len = length(&self.input);
            if self.input[0] != EXTRA_INFO {
                ensure!(
                    self.input.len() == len,
                    "the server sent more than its answer"
                );
                self.check.answer(&self.input, self.id)?;
                self.input.clear();
                return Ok(true);
            }
            // Nothing of what a runner may ask is there: no variable, no body.
            let answer = e2e::gateway::frame(EXTRA_INFO, &answer_payload(None));
            self.stream.write_all(&answer)?;
            self.input.drain(..len);
        }
        self.input.reserve(4096);
        Ok(false)
    }
}
