//! What came of a call, for the `log` phase.

use std::ops::Deref;
use std::time::Duration;

use crate::abi::numbers::{action, ended, hook, number, phase, text};
use crate::call::Call;
use crate::{Request, Response, Value};

/// Where the gateway calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hook {
    /// A request, before the gateway's own plugins (APISIX: `ext-plugin-pre-req`).
    PreRequest,
    /// A request, after the gateway's own plugins (APISIX: `ext-plugin-post-req`).
    PostRequest,
    /// A response (APISIX: `ext-plugin-post-resp`).
    Response,
    /// Something that is newer than this crate.
    Other,
}

/// What the gateway was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Go on, nothing changed.
    Pass,
    /// Go on, with changes.
    Change,
    /// Send a plugin's answer to the client.
    Answer,
    /// The call failed: the client gets 503.
    Error,
    /// Nothing: the gateway had left.
    Nothing,
    /// Something that is newer than this crate.
    Other,
}

/// What ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// All plugins ran.
    Chain,
    /// A plugin answered.
    Answer,
    /// A plugin failed, or could not run.
    Failure,
    /// The deadline passed.
    Deadline,
    /// The gateway left.
    Gateway,
    /// Something that is newer than this crate.
    Other,
}

/// How a call ended: see [`Call::end`].
#[derive(Debug)]
pub struct End<'a, 'call>(&'a Call<'call>);

/// A request or response that can only be read: it derefs to it.
#[derive(Debug)]
pub struct Seen<T>(T);

impl<T> Deref for Seen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'call> Call<'call> {
    /// Where the gateway calls from.
    pub fn hook(&self) -> Hook {
        match self.caller.number(number::HOOK) as u32 {
            hook::PRE_REQUEST => Hook::PreRequest,
            hook::POST_REQUEST => Hook::PostRequest,
            hook::RESPONSE => Hook::Response,
            _ => Hook::Other,
        }
    }

    /// The request, with what plugins have changed; `None` in a response call.
    pub fn request(&self) -> Option<Seen<Request<'call>>> {
        let request = matches!(self.hook(), Hook::PreRequest | Hook::PostRequest);
        request.then(|| Seen(Request(self.again())))
    }

    /// The response, with what plugins have changed; `None` in a request call.
    pub fn response(&self) -> Option<Seen<Response<'call>>> {
        (self.hook() == Hook::Response).then(|| Seen(Response(self.again())))
    }

    /// How the call ended. `None` outside of the `log` phase: it has not ended yet.
    pub fn end(&self) -> Option<End<'_, 'call>> {
        (self.caller.number(number::ENDED) != 0).then_some(End(self))
    }

    fn again(&self) -> Self {
        Self {
            caller: self.caller.clone(),
        }
    }
}

impl<'call> End<'_, 'call> {
    /// What the gateway was told.
    pub fn action(&self) -> Action {
        match self.number(number::ACTION) as u32 {
            action::PASS => Action::Pass,
            action::CHANGE => Action::Change,
            action::ANSWER => Action::Answer,
            action::ERROR => Action::Error,
            action::NOTHING => Action::Nothing,
            _ => Action::Other,
        }
    }

    /// The status that the client gets, where it is known: of a plugin's answer, or of a response. What the upstream
    /// will say to a request is not known yet.
    pub fn status(&self) -> Option<u16> {
        let status = self.number(number::REPLY_STATUS) as u16;
        (status != 0).then_some(status)
    }

    /// What ended the call.
    pub fn ended(&self) -> Ended {
        match self.number(number::ENDED) as u32 {
            ended::CHAIN => Ended::Chain,
            ended::ANSWER => Ended::Answer,
            ended::FAILURE => Ended::Failure,
            ended::DEADLINE => Ended::Deadline,
            ended::GATEWAY => Ended::Gateway,
            _ => Ended::Other,
        }
    }

    /// The plugin that answered, failed, or was running at the deadline.
    pub fn plugin(&self) -> Option<Value<'call>> {
        self.0.caller.text(text::ENDED_BY).map(Value::new)
    }

    /// From the call's arrival to its end.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.number(number::TOOK))
    }

    /// What all plugins together spent in `rewrite`.
    pub fn rewrite_took(&self) -> Duration {
        self.phase(phase::REWRITE)
    }

    /// What all plugins together spent in `access`.
    pub fn access_took(&self) -> Duration {
        self.phase(phase::ACCESS)
    }

    /// What all plugins together spent in `header_filter`.
    pub fn header_filter_took(&self) -> Duration {
        self.phase(phase::HEADER_FILTER)
    }

    /// What all plugins together spent in `body_filter`.
    pub fn body_filter_took(&self) -> Duration {
        self.phase(phase::BODY_FILTER)
    }

    fn phase(&self, phase: u32) -> Duration {
        Duration::from_nanos(self.number(number::PHASE_TOOK + phase))
    }

    fn number(&self, what: u32) -> u64 {
        self.0.caller.number(what)
    }
}
