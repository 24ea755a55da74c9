//! A response for a test.

use std::time::Duration;

use super::call::{Entry, Kind, State};
use crate::abi::numbers::map;

/// An upstream's response for a plugin under test. What is not said is not there, except that the call has 10 seconds.
#[derive(Debug, Clone)]
#[must_use = "give it to a phase of a `Conf`"]
pub struct Response(pub(super) State);

impl Response {
    /// A response with this status.
    pub fn new(status: u16) -> Self {
        let mut state = State::new(Kind::Response);
        state.status = status;
        Self(state)
    }

    /// Adds a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let headers = self.0.maps.entry(map::RESPONSE_HEADERS).or_default();
        headers.push(Entry::new(name, value));
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
