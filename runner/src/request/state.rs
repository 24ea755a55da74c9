//! One call while its chain runs: the frame, what plugins have changed, what they have decided. Plugins reach it
//! through `host`; `reply` writes it.

use bumpalo::Bump;
use bumpalo::collections::Vec;
use plugin_api::abi::numbers::map;

use super::answers::{Answers, Asked};
use super::bodies::{self, Bodies};
use super::end::{End, Times};
use super::index::Index;
use super::moment::Moment;
use super::observer::Observer;
use super::overlay::{Base, Overlay};
use super::service::{Ask, AskError, CallKind};
use crate::protocol::message::{Entries, Malformed, Question, RequestCall, ResponseCall, question};
use crate::protocol::payload::Payload;

/// The call's own message.
#[derive(Debug, Clone, Copy)]
pub enum Message<'c> {
    /// HTTP_REQ_CALL; its lists are read through [`Lists`] only.
    Request(RequestCall<'c>),
    /// HTTP_RESP_CALL.
    Response(ResponseCall<'c>),
}

impl<'c> Message<'c> {
    /// Reads the payload of a call, but for what stands in its lists: see [`Message::lists`].
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(kind: CallKind, payload: &'c [u8]) -> Result<Self, Malformed> {
        match kind {
            CallKind::Request => RequestCall::open(payload).map(Self::Request),
            CallKind::Response => ResponseCall::open(payload).map(Self::Response),
        }
    }

    /// The gateway's number of the call.
    pub fn id(&self) -> u32 {
        match self {
            Self::Request(call) => call.id,
            Self::Response(call) => call.id,
        }
    }

    /// Its lists, of which nothing was read.
    #[inline]
    pub fn lists(&self, arena: &'c Bump) -> Lists<'c> {
        let (args, headers) = match self {
            Self::Request(call) => (call.args, call.headers),
            Self::Response(call) => (Entries::default(), call.headers),
        };
        Lists {
            args: Base::new(Index::new(args, "args", arena)),
            headers: Base::new(Index::new(headers, "headers", arena)),
        }
    }

    /// Whether it is a request.
    #[inline]
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Request(_))
    }

    /// `numbers::map` of its own headers.
    #[inline]
    pub fn headers_map(&self) -> u32 {
        match self {
            Self::Request(_) => map::REQUEST_HEADERS,
            Self::Response(_) => map::RESPONSE_HEADERS,
        }
    }

    /// Which of both.
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Request(_) => CallKind::Request,
            Self::Response(_) => CallKind::Response,
        }
    }
}

/// The lists of a message.
#[derive(Debug)]
pub struct Lists<'c> {
    args: Base<'c>,
    headers: Base<'c>,
}

impl Lists<'_> {
    /// Checks what has to be right before any plugin runs: the headers of a response, as the reply has all of them.
    ///
    /// # Errors
    /// The first entry that cannot be read.
    #[inline]
    pub fn check(&self, kind: CallKind) -> Result<(), Malformed> {
        match kind {
            CallKind::Request => Ok(()),
            CallKind::Response => self.headers.index.check(),
        }
    }

    /// What could not be read so far: then the call must fail.
    #[inline]
    pub fn flaw(&self) -> Option<Malformed> {
        self.headers.index.flaw().or_else(|| self.args.index.flaw())
    }
}

/// What plugins have changed: can be put back when a plugin fails that may be skipped.
#[derive(Debug, Clone)]
pub struct Changes<'c> {
    /// Headers of the request, or of the response in a response call.
    pub headers: Overlay<'c>,
    /// Arguments; empty in a response call.
    pub args: Overlay<'c>,
    /// In a request call: headers to send beside the upstream's.
    pub beside: Overlay<'c>,
    /// The new path.
    pub path: Option<&'c [u8]>,
    /// The new status.
    pub status: Option<u16>,
    /// The new body.
    pub body: Option<&'c [u8]>,
    /// Who the client is, as an authentication plugin says.
    pub consumer: Option<&'c [u8]>,
    /// With which credential.
    pub credential: Option<&'c [u8]>,
    /// The consumer's groups.
    pub groups: Overlay<'c>,
    /// Values that all plugins see.
    pub shared: Overlay<'c>,
    /// Fields for the call's log line.
    pub log_fields: Overlay<'c>,
    /// Values that one plugin sees: by its place in the chain.
    pub private: Option<Vec<'c, (usize, Overlay<'c>)>>,
}

/// An answer that ends the chain.
#[derive(Debug, Clone)]
pub struct Answer<'c> {
    /// 0: the gateway's default.
    pub status: u16,
    /// Its headers.
    pub headers: Overlay<'c>,
    /// Its body.
    pub body: &'c [u8],
}

/// A call while its chain runs. Whatever it owns is in the arena: it needs no drop.
pub struct State<'c> {
    /// Where everything lives that plugins put in.
    pub arena: &'c Bump,
    /// What the gateway sent.
    pub message: Message<'c>,
    /// Its lists.
    pub lists: &'c Lists<'c>,
    /// The gateway's key of the chain.
    pub route_key: &'c str,
    /// When the gateway is answered in the plugins' place.
    pub deadline: Moment,
    /// What plugins have changed.
    pub changes: Changes<'c>,
    /// What a plugin answered.
    pub answer: Option<Answer<'c>>,
    /// Why the last phase failed.
    pub error: Option<&'c [u8]>,
    /// Why the host refused the last thing.
    pub refusal: &'c [u8],
    /// Place in the chain, generation and phase of the plugin that runs.
    pub running: Running,
    /// A question was asked that nobody had declared.
    pub asked: bool,
    /// Who watches this call.
    pub observer: Option<&'static dyn Observer>,
    /// A question has failed: the connection is of no more use.
    pub broken: Option<AskError>,
    /// What the plugins spent in each phase; measured only if the chain has a `log` phase.
    pub times: Times,
    /// In `log`: how the call ended.
    pub end: Option<End>,
    /// In `log`: the plugin that ended it.
    pub ended_by: Option<&'c [u8]>,
    /// Where large bodies live that plugins put in.
    pub bodies: &'c Bodies,
    answers: &'c Answers,
    ask: &'c mut dyn Ask,
}

/// The plugin that runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    /// Place in the chain.
    pub link: usize,
    /// Number of the generation.
    pub generation: u64,
    /// `numbers::phase`.
    pub phase: u32,
}

impl<'c> State<'c> {
    /// A call of which nothing has run, and its message's lists.
    #[inline]
    pub fn new(
        (arena, bodies): (&'c Bump, &'c Bodies),
        (message, lists): (Message<'c>, &'c Lists<'c>),
        route_key: &'c str,
        deadline: Moment,
        answers: &'c Answers,
        ask: &'c mut dyn Ask,
    ) -> Self {
        Self {
            arena,
            message,
            route_key,
            deadline,
            lists,
            changes: Changes::new(lists),
            answer: None,
            error: None,
            refusal: b"",
            running: Running::default(),
            asked: false,
            observer: None,
            broken: None,
            times: Times::default(),
            end: None,
            ended_by: None,
            bodies,
            answers,
            ask,
        }
    }

    /// Copies bytes of a plugin, to live as long as the call.
    pub fn copy(&self, bytes: &[u8]) -> &'c [u8] {
        self.arena.alloc_slice_copy(bytes)
    }

    /// Copies a body of a plugin, to live as long as the call.
    pub fn copy_body(&self, body: &[u8]) -> &'c [u8] {
        if body.len() < bodies::LARGE {
            self.copy(body)
        } else {
            self.bodies.keep(body)
        }
    }

    /// The answer to a question: from what is known, else from the gateway.
    ///
    /// # Errors
    /// The gateway left, broke the protocol, or the deadline passed.
    pub fn ask(&mut self, what: Asked<'_>) -> Result<Option<&'c [u8]>, AskError> {
        if let Some(known) = self.answers.get(&what) {
            return Ok(known);
        }
        if let Some(error) = self.broken {
            return Err(error);
        }
        self.asked = true;
        let payload = self
            .exchange(what)
            .inspect_err(|error| self.broken = Some(*error))?;
        self.answers.keep(what.to_wanted(), payload);
        Ok(self.answers.get(&what).flatten())
    }

    fn exchange(&mut self, what: Asked<'_>) -> Result<Payload, AskError> {
        let asked = match what {
            Asked::Variable(name) => Question::Var(name),
            Asked::RequestBody => Question::RequestBody,
            Asked::ResponseBody => Question::ResponseBody,
        };
        let mut frame = std::vec::Vec::new();
        question(&mut frame, &asked).map_err(|_| AskError::Protocol)?;
        let payload = self.ask.ask(&frame)?;
        match crate::protocol::message::ExtraInfo::parse(&payload) {
            Ok(_) => Ok(payload),
            Err(_) => Err(AskError::Protocol),
        }
    }

    /// Whom bindings take the client for: whom a plugin has authenticated, else whom the gateway has.
    pub fn whom(&self) -> Option<&'c [u8]> {
        let known = || self.answers.get(&Asked::Variable(super::bound::CONSUMER));
        let known = || known().flatten().filter(|consumer| !consumer.is_empty());
        self.changes.consumer.or_else(known)
    }

    /// The values of the plugin that runs.
    pub fn private(&self) -> Option<&Overlay<'c>> {
        let mut private = self.changes.private.iter().flatten();
        let (_, private) = private.find(|(of, _)| *of == self.running.link)?;
        Some(private)
    }

    /// As [`State::private`], to be changed.
    pub fn private_mut(&mut self) -> &mut Overlay<'c> {
        let (link, arena) = (self.running.link, self.arena);
        let private = self
            .changes
            .private
            .get_or_insert_with(|| Vec::new_in(arena));
        let at = private
            .iter()
            .position(|(of, _)| *of == link)
            .unwrap_or_else(|| {
                private.push((link, Overlay::empty(false)));
                private.len() - 1
            });
        &mut private[at].1
    }
}

impl<'c> Changes<'c> {
    #[inline]
    fn new(lists: &'c Lists<'c>) -> Self {
        Self {
            headers: Overlay::new(&lists.headers, true),
            args: Overlay::new(&lists.args, false),
            beside: Overlay::empty(true),
            path: None,
            status: None,
            body: None,
            consumer: None,
            credential: None,
            groups: Overlay::empty(false),
            shared: Overlay::empty(false),
            log_fields: Overlay::empty(false),
            private: None,
        }
    }
}
