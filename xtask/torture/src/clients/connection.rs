//! One connection: makes its calls, answers what it is asked, and notes what it loses.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::gateway::frame;
use e2e::message::{ERROR, EXTRA_INFO, Question, answer_payload};
use rustix::event::epoll;

use super::{Common, lock};
use crate::ledger::Met;

/// An answer that takes longer will not come: the gateway waits no longer either.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read at once.
const PIECE: usize = 16 << 10;

pub(super) struct Connection {
    number: usize,
    stream: UnixStream,
    input: Vec<u8>,
    calls: u32,
    /// When the next call is due.
    due: Instant,
    in_flight: Option<InFlight>,
    /// When the answer that it waits for was first wanted, if a call for it was lost.
    wanted: Option<Instant>,
    /// Crashes before it connected.
    connected_after: u64,
    /// Crashes that have cost it a call, or the connection: each may do so once.
    charged: u64,
}

struct InFlight {
    route: usize,
    id: u32,
    wanted: Instant,
    /// The oldest build that may answer.
    oldest: u64,
    crashes: u64,
    /// It was made while nobody had an answer since a crash.
    waiting: bool,
}

impl Connection {
    pub(super) fn new(common: &Common, poll: &OwnedFd, number: usize) -> Result<Self> {
        let connected_after = common.ledger.crashes();
        Ok(Self {
            number,
            stream: connect(common, poll, number)?,
            input: Vec::new(),
            calls: 0,
            due: Instant::now(),
            in_flight: None,
            wanted: None,
            connected_after,
            charged: connected_after,
        })
    }

    /// Makes the next call when it is due; gives up one that takes too long.
    pub(super) fn look(&mut self, common: &Common, poll: &OwnedFd) -> Result<()> {
        let now = Instant::now();
        match &self.in_flight {
            Some(call) if now.duration_since(call.wanted) > PATIENCE => {
                let fault = format!("a call was not answered within {PATIENCE:?}");
                common.ledger.fault(fault);
                self.in_flight = None;
                self.connect(common, poll)
            }
            Some(_) => Ok(()),
            None if now >= self.due => self.call(common, poll, now),
            None => Ok(()),
        }
    }

    fn call(&mut self, common: &Common, poll: &OwnedFd, now: Instant) -> Result<()> {
        self.calls += 1;
        let route = (self.number + self.calls as usize) % common.routes.len();
        let id = (self.number as u32) << 22 | self.calls & 0x3f_ffff;
        let (route_, token) = &common.routes[route];
        let (kind, payload) = route_.call(*token, id);
        let (oldest, _) = common.ledger.builds();
        self.in_flight = Some(InFlight {
            route,
            id,
            wanted: self.wanted.unwrap_or(now),
            oldest,
            crashes: common.ledger.crashes(),
            waiting: lock(&common.crash).is_some(),
        });
        match self.stream.write_all(&frame(kind, &payload)) {
            Ok(()) => Ok(()),
            Err(_) => self.closed(common, poll),
        }
    }

    /// Takes what has come.
    pub(super) fn receive(&mut self, common: &Common, poll: &OwnedFd) -> Result<()> {
        loop {
            let length = self.input.len();
            self.input.resize(length + PIECE, 0);
            let read = self.stream.read(&mut self.input[length..]);
            self.input.truncate(length + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return self.closed(common, poll),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.closed(common, poll),
            }
            while let Some((kind, payload)) = self.frame() {
                self.take(common, kind, &payload);
            }
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let (&[kind, a, b, c], rest) = self.input.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = rest.get(..length)?.to_vec();
        self.input.drain(..4 + length);
        Some((kind, payload))
    }

    fn take(&mut self, common: &Common, kind: u8, payload: &[u8]) {
        let Some(call) = &self.in_flight else {
            let what = format!("a frame of kind {kind} that nobody waits for");
            return common.ledger.wrong(what);
        };
        if kind == EXTRA_INFO {
            let asked = Question::read(payload);
            if asked != Some(Question::Variable("remote_addr".to_owned())) {
                common
                    .ledger
                    .wrong(format!("the runner asked for {asked:?}"));
            }
            let answer = frame(EXTRA_INFO, &answer_payload(Some(b"10.0.0.1")));
            // A connection that cannot be written to is found to be closed when it is read.
            return drop(self.stream.write_all(&answer));
        }
        let (route, _) = &common.routes[call.route];
        let (_, newest) = common.ledger.builds();
        match route.check(call.id, kind, payload) {
            Err(what) if kind == ERROR => common.ledger.error_frame(what),
            Err(what) => common.ledger.wrong(what),
            Ok(Some(build)) if build < call.oldest || build > newest => {
                common.ledger.wrong(format!(
                    "build {build} answered a call that was made when {} served; the newest is {newest}",
                    call.oldest
                ));
            }
            Ok(_) => self.answered(common, call),
        }
        self.due = Instant::now() + common.pause;
        self.in_flight = None;
        self.wanted = None;
    }

    fn answered(&self, common: &Common, call: &InFlight) {
        let crashes = common.ledger.crashes();
        let met = match call.crashes != crashes || call.waiting || self.wanted.is_some() {
            true => Met::Crash,
            false => Met::Calm,
        };
        common.ledger.answered(call.wanted.elapsed(), met);
        let mut crash = lock(&common.crash);
        match &mut *crash {
            Some((number, since)) if self.connected_after >= *number => {
                common.ledger.recovered(*since);
                *crash = None;
            }
            Some((_, since)) => *since = Instant::now(),
            None => {}
        }
    }

    /// The runner has closed it.
    fn closed(&mut self, common: &Common, poll: &OwnedFd) -> Result<()> {
        let ledger = &common.ledger;
        let crashes = ledger.crashes();
        let by_crash = crashes > self.charged;
        let cause = if by_crash { "crash" } else { "no crash" };
        let call = self.in_flight.take();
        match &call {
            Some(_) => ledger.lost(cause),
            None => ledger.closed(cause),
        }
        if !by_crash {
            let which = call.as_ref().map_or("an idle connection", |_| "a call");
            let after = crashes - self.connected_after;
            ledger.fault(format!(
                "{which} was lost without a crash of its own (after {crashes} crashes, {after} since it connected)"
            ));
        }
        self.charged = crashes;
        if let Some(call) = call {
            self.wanted = Some(call.wanted);
            self.due = Instant::now();
        }
        self.connect(common, poll)
    }

    fn connect(&mut self, common: &Common, poll: &OwnedFd) -> Result<()> {
        self.connected_after = common.ledger.crashes();
        self.stream = connect(common, poll, self.number)?;
        self.input.clear();
        Ok(())
    }
}

/// Waits only if the backlog is full.
fn connect(common: &Common, poll: &OwnedFd, number: usize) -> Result<UnixStream> {
    let stream = UnixStream::connect(&common.socket);
    let stream = stream.context("a connect failed: it has to wait and succeed")?;
    stream.set_nonblocking(true)?;
    let data = epoll::EventData::new_u64(number as u64);
    epoll::add(poll, &stream, data, epoll::EventFlags::IN)?;
    Ok(stream)
}
