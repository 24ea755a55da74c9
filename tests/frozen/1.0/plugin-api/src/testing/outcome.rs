//! What came of the phases.

use super::Event;
use super::call::{Entry, State};
use crate::Value;
use crate::abi::numbers::{decision, map, text};

/// What the plugin decided and changed.
#[derive(Debug, Clone)]
#[must_use = "say what is expected of it"]
pub struct Outcome {
    state: State,
    decision: u32,
    events: Vec<Event>,
}

impl Outcome {
    pub(super) fn new(state: State, decision: u32, events: Vec<Event>) -> Self {
        Self {
            state,
            decision,
            events,
        }
    }

    /// Whether the call goes on to the next plugin.
    pub fn continues(&self) -> bool {
        self.decision == decision::CONTINUE
    }

    /// The answer that ends the chain, if the plugin gave one.
    pub fn answer(&self) -> Option<Answer<'_>> {
        (self.decision == decision::RESPOND).then_some(Answer(&self.state))
    }

    /// Why the phase failed, if it did. The client sees 503 and not this text.
    pub fn error(&self) -> Option<Value<'_>> {
        self.failed()
            .then(|| self.text(text::ERROR).unwrap_or(Value::new(b"")))
    }

    /// Whether the phase failed by a panic.
    pub fn panicked(&self) -> bool {
        self.decision == decision::PANIC
    }

    fn failed(&self) -> bool {
        self.decision == decision::ERROR || self.panicked()
    }

    /// The path that the upstream gets; empty in a response call.
    pub fn path(&self) -> Value<'_> {
        self.text(text::PATH).unwrap_or(Value::new(b""))
    }

    /// The status that the client gets; 0 in a request call.
    pub fn status(&self) -> u16 {
        self.state.status
    }

    /// The first value of a header: of the request in a request call, of the response in a response call.
    pub fn header(&self, name: &str) -> Option<Value<'_>> {
        self.header_values(name).next()
    }

    /// All values of a header: see [`Outcome::header`].
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = Value<'a>> {
        let map = match self.state.kind {
            super::call::Kind::Request => map::REQUEST_HEADERS,
            super::call::Kind::Response => map::RESPONSE_HEADERS,
        };
        values(&self.state, map, name)
    }

    /// All values, in a request call, of a header that goes to the client beside the upstream's.
    pub fn response_header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = Value<'a>> {
        values(&self.state, map::RESPONSE_HEADERS, name)
    }

    /// The first value of an argument; `Some("")` also for one without a value.
    pub fn arg(&self, name: &str) -> Option<Value<'_>> {
        values(&self.state, map::ARGS, name).next()
    }

    /// All values of an argument.
    pub fn arg_values<'a>(&'a self, name: &str) -> impl Iterator<Item = Value<'a>> {
        values(&self.state, map::ARGS, name)
    }

    /// The body that the plugin has set; `None`: it left the body as it was.
    pub fn body(&self) -> Option<Value<'_>> {
        self.text(text::BODY)
    }

    /// The consumer that the plugin has authenticated.
    pub fn consumer(&self) -> Option<Value<'_>> {
        self.text(text::CONSUMER)
    }

    /// The credential that the consumer came with.
    pub fn credential(&self) -> Option<Value<'_>> {
        self.text(text::CREDENTIAL)
    }

    /// The groups of the consumer.
    pub fn groups(&self) -> impl Iterator<Item = Value<'_>> {
        let groups = self.state.entries(map::GROUPS).iter();
        groups.map(|group| Value::new(&group.name))
    }

    /// A value for the other plugins of the chain.
    pub fn shared(&self, key: &str) -> Option<Value<'_>> {
        values(&self.state, map::SHARED, key).next()
    }

    /// A field that the plugin has added to the line about the call.
    pub fn log_field(&self, name: &str) -> Option<Value<'_>> {
        values(&self.state, map::LOG_FIELDS, name).next()
    }

    /// The questions that would cost a round trip to the gateway each: `variable NAME`, `request_body`,
    /// `response_body`. Those that the plugin declares with `#[needs(…)]` are not among them.
    pub fn undeclared_questions(&self) -> &[String] {
        &self.state.asked
    }

    /// What the plugin logged, on the thread of the test.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    fn text(&self, what: u32) -> Option<Value<'_>> {
        self.state.texts.get(&what).map(|text| Value::new(text))
    }
}

/// An answer that ends the chain.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a>(&'a State);

impl<'a> Answer<'a> {
    /// The status; 0 stands for the gateway's default.
    pub fn status(self) -> u16 {
        self.0.answer.unwrap_or_default()
    }

    /// The first value of a header.
    pub fn header(self, name: &str) -> Option<Value<'a>> {
        values(self.0, map::ANSWER_HEADERS, name).next()
    }

    /// All values of a header.
    pub fn header_values(self, name: &str) -> impl Iterator<Item = Value<'a>> {
        values(self.0, map::ANSWER_HEADERS, name)
    }

    /// The body.
    pub fn body(self) -> Value<'a> {
        let body = self.0.texts.get(&text::ANSWER_BODY);
        Value::new(body.map_or(b"", |body| body))
    }
}

fn values<'a>(state: &'a State, map: u32, name: &str) -> impl Iterator<Item = Value<'a>> {
    state.values(map, name.as_bytes()).map(value)
}

fn value(entry: &Entry) -> Value<'_> {
    Value::new(entry.value.as_deref().unwrap_or_default())
}
