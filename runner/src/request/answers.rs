//! What the gateway has answered to questions of one call, declared or not. Each is asked once.

use std::cell::OnceCell;

use elsa::FrozenVec;

use crate::protocol::message::ExtraInfo;
use crate::protocol::payload::Payload;

/// Something that a call does not carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A variable of the gateway.
    Variable(Box<[u8]>),
    /// The client's body.
    RequestBody,
    /// The upstream's body. The gateway gives it once.
    ResponseBody,
}

/// The answers so far. They stay where they are until the call ends, so plugins can borrow them.
#[derive(Default)]
pub struct Answers {
    /// Most calls ask nothing: one word for them.
    known: OnceCell<Box<Known>>,
}

type Known = FrozenVec<Box<(Wanted, Payload)>>;

impl Answers {
    /// Keeps the payload of an answer, which parsed.
    pub fn keep(&self, wanted: Wanted, payload: Payload) {
        let known = self.known.get_or_init(Box::default);
        known.push(Box::new((wanted, payload)));
    }

    /// About how much memory they hold.
    pub fn bytes(&self) -> usize {
        self.iter().map(|known| known.1.len()).sum()
    }

    fn iter(&self) -> impl Iterator<Item = &(Wanted, Payload)> {
        self.known.get().into_iter().flat_map(|known| known.iter())
    }

    /// The answer: `None` when it was not asked yet, `Some(None)` when the gateway has no such thing.
    pub fn get(&self, what: &Asked<'_>) -> Option<Option<&[u8]>> {
        let known = self.iter().find(|known| what.is(&known.0))?;
        Some(
            ExtraInfo::parse(&known.1)
                .ok()
                .and_then(|answer| answer.result),
        )
    }
}

/// A borrowed [`Wanted`].
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// A variable of the gateway.
    Variable(&'a [u8]),
    /// The client's body.
    RequestBody,
    /// The upstream's body.
    ResponseBody,
}

impl Asked<'_> {
    /// An owned copy.
    pub fn to_wanted(self) -> Wanted {
        match self {
            Self::Variable(name) => Wanted::Variable(name.into()),
            Self::RequestBody => Wanted::RequestBody,
            Self::ResponseBody => Wanted::ResponseBody,
        }
    }

    fn is(&self, wanted: &Wanted) -> bool {
        match (self, wanted) {
            (Self::Variable(one), Wanted::Variable(other)) => **one == **other,
            (Self::RequestBody, Wanted::RequestBody)
            | (Self::ResponseBody, Wanted::ResponseBody) => true,
            _ => false,
        }
    }
}
