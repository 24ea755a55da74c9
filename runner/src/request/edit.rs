//! What plugins may change, and what is refused because the gateway would mistreat it.

use bumpalo::Bump;
use plugin_api::abi::numbers::{edit, map, number, text};
use plugin_api::rules;

use super::overlay::Overlay;
use super::service::CallKind;
use super::state::{Answer, State};
use crate::protocol::frame::MAX_PAYLOAD;
use crate::protocol::message::Entries;

/// Why something was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This runner does not know it, or this kind of call does not have it.
    Unknown,
    /// The reason, for the author.
    Because(String),
}

impl From<rules::Broken> for Refusal {
    fn from(rule: rules::Broken) -> Self {
        Self::Because(rule.to_string())
    }
}

type Edited = Result<(), Refusal>;

/// Changes a number of the call (`numbers::number`).
pub fn set_number(state: &mut State<'_>, what: u32, value: u64) -> Edited {
    let status = u16::try_from(value).unwrap_or(u16::MAX);
    match (what, state.message.kind()) {
        (number::STATUS, CallKind::Response) => {
            rules::status(status)?;
            state.changes.status = Some(status);
        }
        (number::ANSWER_STATUS, kind) => {
            rules::answer_status(status, kind == CallKind::Response)?;
            state.answer = Some(begin(status, state.arena));
        }
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

fn begin(status: u16, arena: &Bump) -> Answer<'_> {
    let headers = Overlay::new(Entries::default(), true, arena);
    Answer { status, headers, body: b"" }
}

/// Changes a text of the call (`numbers::text`).
pub fn set_text(state: &mut State<'_>, what: u32, value: &[u8]) -> Edited {
    let kind = state.message.kind();
    match (what, kind) {
        (text::PATH, CallKind::Request) => {
            rules::path(value)?;
            state.changes.path = Some(state.copy(value));
        }
        (text::BODY, _) => {
            rules::body(value)?;
            fits(value)?;
            state.changes.body = Some(state.copy(value));
        }
        (text::ANSWER_BODY, _) => return set_answer_body(state, value),
        (text::ERROR, _) => state.error = Some(state.copy(value)),
        (text::CONSUMER, _) => state.changes.consumer = Some(state.copy(value)),
        (text::CREDENTIAL, _) => state.changes.credential = Some(state.copy(value)),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

fn set_answer_body(state: &mut State<'_>, value: &[u8]) -> Edited {
    rules::answer_body(value, state.message.kind() == CallKind::Response)?;
    fits(value)?;
    let value = state.copy(value);
    let answer = state.answer.as_mut().ok_or(Refusal::Unknown)?;
    answer.body = value;
    Ok(())
}

/// The protocol's limit, told where the author can see it and not at the end of the chain.
fn fits(body: &[u8]) -> Edited {
    if body.len() <= MAX_PAYLOAD {
        return Ok(());
    }
    let reason = format!("a body of {} bytes does not fit into a frame of at most {MAX_PAYLOAD}", body.len());
    Err(Refusal::Because(reason))
}

/// Takes a text of the call away.
pub fn clear_text(state: &mut State<'_>, what: u32) -> Edited {
    match what {
        text::CONSUMER => state.changes.consumer = None,
        text::CREDENTIAL => state.changes.credential = None,
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

/// Whether a change of a map is allowed.
///
/// # Errors
/// The reason, for the author.
pub fn check(state: &State<'_>, map: u32, edit: u32, name: &[u8], value: &[u8]) -> Edited {
    let value = (edit != edit::REMOVE).then_some(value);
    match (map, state.message.kind()) {
        (map::REQUEST_HEADERS, CallKind::Request) => {
            let adds_to = edit == edit::ADD && state.changes.headers.get(name, 0).is_some();
            rules::request_header(name, value, adds_to)?;
        }
        (map::ARGS, CallKind::Request) => rules::arg(name)?,
        (map::RESPONSE_HEADERS, CallKind::Request) => rules::beside_header(name, value)?,
        (map::RESPONSE_HEADERS, CallKind::Response) | (map::ANSWER_HEADERS, _) => {
            rules::response_header(name, value)?;
        }
        (map::SHARED | map::PRIVATE | map::GROUPS | map::LOG_FIELDS, _) => {}
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

/// Makes a change that was checked.
///
/// # Errors
/// This runner does not know the kind of change.
pub fn apply<'c>(map: &mut Overlay<'c>, edit: u32, name: &'c [u8], value: &'c [u8]) -> Edited {
    match edit {
        edit::SET => map.set(name, value),
        edit::ADD => map.add(name, value),
        edit::REMOVE => map.remove(name),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}
