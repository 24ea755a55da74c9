//! A request for a test.

use std::net::IpAddr;
use std::time::Duration;

use super::call::{Data, Entry, Kind, State};
use crate::Method;
use crate::abi::numbers::{map, text};

/// A request for a plugin under test. What is not said is not there, except that the client is 127.0.0.1 and the call
/// has 10 seconds.
#[derive(Debug, Clone)]
#[must_use = "give it to a phase of a `Conf`"]
pub struct Request(pub(super) State);

impl Request {
    /// A request for `target`, `/path?query`. The path is taken as it is (a gateway hands it over decoded); the query
    /// is decoded, and `?flag` is an argument without a value.
    pub fn new(method: Method, target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut state = State::new(Kind::Request);
        state.method = method.0;
        state.texts.insert(text::PATH, path.as_bytes().into());
        let args = query.split('&').filter(|part| !part.is_empty());
        state.maps.insert(map::ARGS, args.filter_map(arg).collect());
        Self(state).client_address([127, 0, 0, 1])
    }

    /// `GET target`
    pub fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    /// `POST target` with a body.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new(Method::POST, target).body(body)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let headers = self.0.maps.entry(map::REQUEST_HEADERS).or_default();
        headers.push(Entry::new(name, value));
        self
    }

    /// Adds an argument, decoded.
    pub fn arg(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let args = self.0.maps.entry(map::ARGS).or_default();
        args.push(Entry::new(name, value));
        self
    }

    /// The body, for a plugin that asks for it.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.0.body = Some(body.as_ref().into());
        self
    }

    /// A variable of the gateway, for a plugin that asks for it.
    pub fn variable(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0
            .variables
            .insert(name.as_bytes().into(), value.as_ref().into());
        self
    }

    /// The client's address.
    pub fn client_address(mut self, address: impl Into<IpAddr>) -> Self {
        let bytes: Data = match address.into() {
            IpAddr::V4(address) => Data::from(address.octets()),
            IpAddr::V6(address) => Data::from(address.octets()),
        };
        self.0.texts.insert(text::CLIENT_ADDRESS, bytes);
        self
    }

    /// The consumer that a plugin earlier in the chain has authenticated.
    pub fn consumer(mut self, consumer: impl AsRef<[u8]>) -> Self {
        self.0
            .texts
            .insert(text::CONSUMER, consumer.as_ref().into());
        self
    }

    /// A value that a plugin earlier in the chain has shared.
    pub fn shared(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let shared = self.0.maps.entry(map::SHARED).or_default();
        shared.push(Entry::new(key, value));
        self
    }

    /// How long the call may take.
    pub fn remaining(mut self, remaining: Duration) -> Self {
        self.0.remaining = remaining;
        self
    }

    /// Every question fails with `reason`, as when the gateway leaves in the middle of the call.
    pub fn gateway_leaves(mut self, reason: &str) -> Self {
        self.0.gone = Some(reason.to_owned());
        self
    }
}

fn arg(part: &str) -> Option<Entry> {
    let (name, value) = form_urlencoded::parse(part.as_bytes()).next()?;
    let entry = Entry::new(name.as_bytes(), value.as_bytes());
    Some(Entry {
        value: entry.value.filter(|_| part.contains('=')),
        ..entry
    })
}
