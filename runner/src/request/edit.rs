//! What plugins may change, and what is refused because the gateway would mistreat it.

use plugin_api::abi::numbers::{edit, map, number, text};
use plugin_api::rules;

use super::overlay::Overlay;
use super::service::CallKind;
use super::state::{Answer, State};

/// Why something was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This runner does not know it, or this kind of call does not have it.
    Unknown,
    /// The reason, for the author.
    Because(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Because(reason)
    }
}

type Edited = Result<(), Refusal>;

/// Changes a number of the call (`numbers::number`).
pub fn set_number(state: &mut State<'_>, what: u32, value: u64) -> Edited {
    not_over(state)?;
    let status = u16::try_from(value).unwrap_or(u16::MAX);
    match (what, state.message.kind()) {
        (number::STATUS, CallKind::Response) => {
            rules::status(status)?;
            state.changes.status = Some(status);
        }
        (number::ANSWER_STATUS, _) => {
            rules::answer_status(status)?;
            state.answer = Some(begin(status));
        }
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

/// After the reply, nothing that the gateway would have to know can change.
#[inline]
fn not_over(state: &State<'_>) -> Edited {
    match state.end {
        None => Ok(()),
        Some(_) => Err(Refusal::Because(
            "the reply has been written: `log` can change nothing".to_owned(),
        )),
    }
}

fn begin<'c>(status: u16) -> Answer<'c> {
    Answer {
        status,
        headers: Overlay::empty(true),
        body: b"",
    }
}

/// Changes a text of the call (`numbers::text`).
pub fn set_text(state: &mut State<'_>, what: u32, value: &[u8]) -> Edited {
    let kind = state.message.kind();
    if what != text::ERROR {
        not_over(state)?;
    }
    match (what, kind) {
        (text::PATH, CallKind::Request) => {
            rules::path(value)?;
            state.changes.path = Some(state.copy(value));
        }
        (text::BODY, kind) => {
            match kind {
                CallKind::Request => rules::request_body(value)?,
                CallKind::Response => rules::response_body(value)?,
            }
            state.changes.body = Some(state.copy_body(value));
        }
        (text::ANSWER_BODY, _) => return set_answer_body(state, value),
        (text::ERROR, _) => state.error = Some(state.copy(value)),
        (text::CONSUMER, _) => {
            rules::not_empty("a consumer", value)?;
            state.changes.consumer = Some(state.copy(value));
        }
        (text::CREDENTIAL, _) => state.changes.credential = Some(state.copy(value)),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

fn set_answer_body(state: &mut State<'_>, value: &[u8]) -> Edited {
    match state.message.kind() {
        CallKind::Request => rules::request_answer_body(value)?,
        CallKind::Response => rules::response_body(value)?,
    }
    let value = state.copy_body(value);
    let answer = state.answer.as_mut().ok_or(Refusal::Unknown)?;
    answer.body = value;
    Ok(())
}

/// Takes a text of the call away.
pub fn clear_text(state: &mut State<'_>, what: u32) -> Edited {
    not_over(state)?;
    match what {
        text::CONSUMER => state.changes.consumer = None,
        text::CREDENTIAL => state.changes.credential = None,
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

/// Changes a map (`numbers::map`).
#[inline]
pub fn map(state: &mut State<'_>, map: u32, edit: u32, name: &[u8], value: &[u8]) -> Edited {
    // What most plugins do takes a short way to the same answer.
    let plain = edit == edit::SET && map == map::REQUEST_HEADERS && takes_headers(state);
    if !(plain && rules::is_plain_header(name, value)) {
        check(state, map, edit, name, value)?;
    }
    let (arena, value) = (state.arena, state.copy(value));
    let map = map_of(state, map).ok_or(Refusal::Unknown)?;
    match edit {
        edit::SET => map.set(name, value, arena),
        edit::ADD => map.add(name, value, arena),
        edit::REMOVE => map.remove(name, arena),
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}

#[inline]
fn takes_headers(state: &State<'_>) -> bool {
    state.end.is_none() && state.message.is_request()
}

fn map_of<'s, 'c>(state: &'s mut State<'c>, map: u32) -> Option<&'s mut Overlay<'c>> {
    if map == map::PRIVATE {
        return Some(state.private_mut());
    }
    let (request, changes) = (state.message.is_request(), &mut state.changes);
    match map {
        map::REQUEST_HEADERS if request => Some(&mut changes.headers),
        map::ARGS if request => Some(&mut changes.args),
        map::RESPONSE_HEADERS if request => Some(&mut changes.beside),
        map::RESPONSE_HEADERS => Some(&mut changes.headers),
        map::ANSWER_HEADERS => state.answer.as_mut().map(|answer| &mut answer.headers),
        map::SHARED => Some(&mut changes.shared),
        map::GROUPS => Some(&mut changes.groups),
        map::LOG_FIELDS => Some(&mut changes.log_fields),
        _ => None,
    }
}

/// Whether a change of a map is allowed.
fn check(state: &State<'_>, map: u32, edit: u32, name: &[u8], value: &[u8]) -> Edited {
    if !matches!(map, map::LOG_FIELDS | map::SHARED | map::PRIVATE) {
        not_over(state)?;
    }
    match (map, state.message.kind()) {
        (map::REQUEST_HEADERS, CallKind::Request) => {
            // Only a value beside others is refused for their sake.
            let beside = edit == edit::ADD && state.changes.headers.get(name, 0).is_some();
            rules::request_header_edit(edit, name, value, usize::from(beside))?;
        }
        (map::ARGS, CallKind::Request) => rules::arg_name(name)?,
        (map::RESPONSE_HEADERS, CallKind::Request) => rules::beside_header_edit(edit, name, value)?,
        (map::RESPONSE_HEADERS, CallKind::Response) => {
            rules::response_header_edit(edit, name, value)?;
        }
        (map::ANSWER_HEADERS, _) => rules::answer_header(name, value)?,
        (map::GROUPS, _) => rules::not_empty("a group", name)?,
        (map::SHARED | map::PRIVATE | map::LOG_FIELDS, _) => rules::not_empty("a value", name)?,
        _ => return Err(Refusal::Unknown),
    }
    Ok(())
}
