//! A service whose calls do what the first byte of their payload says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use plugin_runner::protocol::frame::{self, kind};
use plugin_runner::protocol::payload::Payload;
use plugin_runner::request::moment::Moment;
use plugin_runner::request::service::{
    Ask, Blame, Call, CallKind, ErrorCode, Placement, Refused, Service, Watched,
};
use tokio::sync::{Semaphore, watch};

/// Answers with its own payload, on the event loop.
pub(crate) const ECHO: u8 = b'e';
/// Blocks the event loop until the gate of its second byte is open; then echoes.
pub(crate) const STUCK: u8 = b's';
/// Blocks a thread until the gate of its second byte is open; then echoes.
pub(crate) const THREAD: u8 = b't';
/// Needs a permit of the service's own semaphore, and then does as THREAD.
pub(crate) const PERMIT: u8 = b'l';
/// Declares as many questions as its second byte says, and answers with all answers.
pub(crate) const NEEDS: u8 = b'q';
/// Asks one question in the middle, on the event loop, and answers with the answer.
pub(crate) const ASKS: u8 = b'a';
/// The same on a thread.
pub(crate) const ASKS_ON_THREAD: u8 = b'A';
/// Waits until the service is configured; then echoes.
pub(crate) const PENDING: u8 = b'p';
/// Blocks the event loop for about as many hundreds of microseconds as its second byte says; then echoes.
pub(crate) const BRIEF: u8 = b'b';
/// Is refused.
pub(crate) const REFUSED: u8 = b'r';
/// Panics, which a call never does.
pub(crate) const PANICS: u8 = b'x';
/// Answers with 16 MiB less one byte.
pub(crate) const HUGE: u8 = b'h';

/// The payload of every question.
pub(crate) const QUESTION: &[u8] = b"question";

/// A door that calls wait at.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self, patience: Duration) {
        let open = self.open.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(open, patience, |open| !*open);
        drop(waited);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Slow(Option<(u64, u8)>),
    Expired(Option<(u64, u8)>),
    Finished(u8, bool),
}

pub(crate) struct Fake {
    gates: Mutex<HashMap<u8, Arc<Gate>>>,
    events: Mutex<Vec<Event>>,
    more: Condvar,
    pub(crate) inside: AtomicUsize,
    pub(crate) permits: Arc<Semaphore>,
    configured: watch::Sender<bool>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            gates: Mutex::default(),
            events: Mutex::default(),
            more: Condvar::new(),
            inside: AtomicUsize::new(0),
            permits: Arc::new(Semaphore::new(1)),
            configured: watch::Sender::new(false),
        })
    }

    pub(crate) fn gate(&self, number: u8) -> Arc<Gate> {
        Arc::clone(self.gates.lock().unwrap().entry(number).or_default())
    }

    pub(crate) fn configured(&self) {
        self.configured.send_replace(true);
    }

    /// Waits until `event` has happened `times` times.
    #[track_caller]
    pub(crate) fn wait_for(&self, event: &Event, times: usize) {
        let events = self.events.lock().unwrap();
        let few =
            |events: &mut Vec<Event>| events.iter().filter(|each| *each == event).count() < times;
        let (events, waited) = self
            .more
            .wait_timeout_while(events, Duration::from_secs(20), few)
            .unwrap();
        assert!(!waited.timed_out(), "no {event:?}; but {events:?}");
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.more.notify_all();
    }
}

/// Fakes share what happens in them by reference.
pub(crate) struct Shared(pub(crate) Arc<Fake>);

impl Service for Shared {
    type Call = FakeCall;

    fn prepare_conf(&self, payload: &[u8], out: &mut Vec<u8>) {
        put(out, kind::PREPARE_CONF, payload);
    }

    fn admit(&self, kind: CallKind, payload: Payload, _now: Moment) -> Result<FakeCall, Refused> {
        if payload.first() == Some(&REFUSED) {
            return Err(Refused {
                code: ErrorCode::ConfTokenNotFound,
                payload,
            });
        }
        let reply = match kind {
            CallKind::Request => kind::HTTP_REQ_CALL,
            CallKind::Response => kind::HTTP_RESP_CALL,
        };
        Ok(FakeCall {
            fake: Arc::clone(&self.0),
            reply,
            payload,
            answers: Vec::new(),
        })
    }

    fn watched(&self, _: &Blame) -> Option<FakeWatched> {
        Some(FakeWatched(Arc::clone(&self.0)))
    }
}

pub(crate) struct FakeCall {
    fake: Arc<Fake>,
    reply: u8,
    payload: Payload,
    answers: Vec<u8>,
}

impl FakeCall {
    fn does(&self) -> u8 {
        self.payload.first().copied().unwrap_or(ECHO)
    }

    fn pass_gate(&self, blame: &Blame) {
        let number = self.payload.get(1).copied().unwrap_or(0);
        blame.enter(u64::from(number) + 1, 3);
        self.fake.inside.fetch_add(1, Ordering::SeqCst);
        self.fake.gate(number).pass(Duration::from_secs(20));
        blame.leave();
    }
}

impl Call for FakeCall {
    type Watched = FakeWatched;

    fn is_plain(&self) -> bool {
        matches!(self.does(), ECHO | STUCK | BRIEF | HUGE)
    }

    fn pending(&mut self) -> Option<watch::Receiver<bool>> {
        let ready = self.fake.configured.subscribe();
        (self.does() == PENDING && !*ready.borrow()).then_some(ready)
    }

    fn questions(&mut self, out: &mut Vec<u8>) -> usize {
        if self.does() != NEEDS {
            return 0;
        }
        let count = self.payload.get(1).copied().unwrap_or(1);
        for _ in 0..count {
            put(out, kind::EXTRA_INFO, QUESTION);
        }
        usize::from(count)
    }

    fn answer(&mut self, payload: Payload) -> Result<(), ErrorCode> {
        if *payload == *b"bad" {
            return Err(ErrorCode::BadRequest);
        }
        self.answers.extend_from_slice(&payload);
        Ok(())
    }

    fn placement(&self) -> Placement {
        match self.does() {
            THREAD | ASKS_ON_THREAD => Placement::Threads(Vec::new()),
            PERMIT => Placement::Threads(vec![Arc::clone(&self.fake.permits)]),
            _ => Placement::Inline,
        }
    }

    fn watched(&self) -> FakeWatched {
        FakeWatched(Arc::clone(&self.fake))
    }

    fn run(&mut self, _deadline: Moment, blame: &Blame, ask: &mut dyn Ask, out: &mut Vec<u8>) {
        match self.does() {
            STUCK | THREAD | PERMIT => self.pass_gate(blame),
            BRIEF => {
                let hundreds = self.payload.get(1).copied().unwrap_or(0);
                Gate::default().pass(Duration::from_micros(u64::from(hundreds) * 100));
            }
            PANICS => panic!("a call that panics"),
            ASKS | ASKS_ON_THREAD => {
                let mut question = Vec::new();
                put(&mut question, kind::EXTRA_INFO, QUESTION);
                match ask.ask(&question) {
                    Ok(answer) => self.answers = answer.to_vec(),
                    Err(error) => self.answers = error.to_string().into_bytes(),
                }
            }
            HUGE => self.answers = vec![7; frame::MAX_PAYLOAD],
            _ => {}
        }
        let text = if self.answers.is_empty() {
            &*self.payload
        } else {
            &self.answers
        };
        put(out, self.reply, text);
    }

    fn finish(self, answered: bool) -> Vec<u8> {
        self.fake.note(Event::Finished(self.does(), answered));
        self.payload.into_buffer()
    }
}

#[derive(Clone)]
pub(crate) struct FakeWatched(Arc<Fake>);

impl Watched for FakeWatched {
    fn slow(&self, blame: &Blame, elapsed: Duration) {
        assert!(elapsed >= Duration::from_millis(1));
        self.0.note(Event::Slow(blame.now()));
    }

    fn expired(&self, blame: Option<&Blame>, _elapsed: Duration) {
        self.0.note(Event::Expired(blame.and_then(Blame::now)));
    }
}

pub(crate) fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    frame::encode(out, kind, |out| out.extend_from_slice(payload)).unwrap();
}
