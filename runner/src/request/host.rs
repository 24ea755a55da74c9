//! What plugins may do with a call: the runner's side of the host functions. None of them unwinds.

#![expect(
    unsafe_code,
    reason = "a plugin hands back the pointer that it got for the call"
)]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use abi_stable::prefix_type::PrefixTypeTrait;
use plugin_api::abi::numbers::{self, ask, map, number, text};
use plugin_api::abi::{Bytes, CallPointer, Found, FoundEntry, Host, HostRef, LogRecord};

use super::answers::Asked;
use super::edit;
use super::hook::Hook;
use super::moment::Moment;
use super::overlay::Overlay;
use super::plugin_log;
use super::state::{Message, Running, State};

/// The functions, for every plugin.
pub fn host() -> HostRef {
    static HOST: LazyLock<HostRef> = LazyLock::new(|| {
        let host = Host {
            log,
            number,
            set_number,
            text,
            set_text,
            clear_text,
            get,
            entry,
            edit,
            ask,
            error_text,
            #[cfg(feature = "next-minor")]
            next_minor,
        };
        host.leak_into_prefix()
    });
    *HOST
}

#[cfg(feature = "next-minor")]
extern "C" fn next_minor() -> u32 {
    1
}

thread_local! {
    /// The call that runs on this thread, for the log lines of plugins.
    static CURRENT: Cell<Option<CallPointer>> = const { Cell::new(None) };
}

/// Gives a call to plugin code. It may use it until `code` returns.
pub fn lend<R>(state: &mut State<'_>, code: impl FnOnce(CallPointer) -> R) -> R {
    let call = CallPointer {
        pointer: std::ptr::from_mut(state).cast(),
    };
    CURRENT.set(Some(call));
    let _lent = Lent;
    code(call)
}

/// Ends the loan, also when the runner's own code around the plugin's panics.
struct Lent;

impl Drop for Lent {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

/// Gets the call back; a panic of ours in `code` becomes `otherwise`.
fn with<R>(call: CallPointer, otherwise: R, code: impl FnOnce(&mut State<'_>) -> R) -> R {
    // SAFETY: `lend` made the pointer from a state that it holds mutably until the phase returns, and the plugin's
    // side of the call is neither `Send` nor outlives the phase, so this is the only reference to it.
    let state = unsafe { &mut *call.pointer.cast::<State<'_>>() };
    catch_unwind(AssertUnwindSafe(|| code(state))).unwrap_or(otherwise)
}

/// The call, for what cannot panic: [`with`] costs as much as a look-up. Not to be kept while `with` has it.
#[inline(always)]
fn read<'s, 'c>(call: CallPointer) -> &'s State<'c> {
    // SAFETY: as in `with`; whoever calls this drops what it returns before the next use of the call.
    unsafe { &*call.pointer.cast::<State<'_>>() }
}

/// The bytes of a plugin, until the host function returns.
fn bytes<'a>(bytes: Bytes) -> &'a [u8] {
    // SAFETY: the plugin's side makes them from a slice that lives until the host function returns, and all uses here
    // copy what they keep.
    unsafe { bytes.as_slice() }
}

fn found(value: Option<&[u8]>) -> Found {
    value.map_or(Found::nothing(numbers::ABSENT), Found::present)
}

fn found_value(value: Option<Option<&[u8]>>) -> Found {
    match value {
        None => Found::nothing(numbers::ABSENT),
        Some(None) => Found::nothing(numbers::VALUELESS),
        Some(Some(value)) => Found::present(value),
    }
}

fn done(state: &mut State<'_>, edited: Result<(), edit::Refusal>) -> u32 {
    match edited {
        Ok(()) => numbers::OK,
        Err(edit::Refusal::Unknown) => numbers::UNSUPPORTED,
        Err(edit::Refusal::Because(reason)) => {
            state.refusal = state.copy(reason.as_bytes());
            numbers::REFUSED
        }
    }
}

extern "C" fn log(record: &LogRecord) {
    let running = CURRENT.get().map(|call| {
        with(call, None, |state| {
            Some((
                state.message.id(),
                state.route_key.to_owned(),
                state.running,
                state.observer,
            ))
        })
    });
    let running = running.flatten();
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let observer = running.as_ref().and_then(|(.., observer)| *observer);
        let line = plugin_log::Line {
            generation: record.generation,
            level: record.level,
            line: record.line,
            target: bytes(record.target),
            message: bytes(record.message),
            fields: bytes(record.fields),
            file: bytes(record.file),
            call: running.map(|(id, route_key, Running { phase, .. }, _)| (id, route_key, phase)),
        };
        if let Some(observer) = observer {
            observer.logged(&line);
        }
        plugin_log::forward(&line);
    }));
}

extern "C" fn number(call: CallPointer, what: u32) -> u64 {
    with(call, 0, |state| match (what, state.message) {
        (number::ID, message) => message.id().into(),
        (number::METHOD, Message::Request(call)) => call.method.into(),
        (number::STATUS, Message::Response(call)) => {
            state.changes.status.unwrap_or(call.status).into()
        }
        (number::REMAINING, _) => {
            let left = state.deadline.saturating_duration_since(Moment::now());
            u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
        }
        (number::HOOK, message) => Hook::of(message.kind(), state.route_key).number().into(),
        (what, _) => state.end.map_or(0, |end| end.number(what)),
    })
}

extern "C" fn set_number(call: CallPointer, what: u32, value: u64) -> u32 {
    with(call, numbers::REFUSED, |state| {
        let edited = edit::set_number(state, what, value);
        done(state, edited)
    })
}

extern "C" fn text(call: CallPointer, what: u32) -> Found {
    with(call, Found::nothing(numbers::ABSENT), |state| {
        found(match (what, state.message) {
            (text::ROUTE_KEY, _) => Some(state.route_key.as_bytes()),
            (text::CLIENT_ADDRESS, Message::Request(call)) => Some(call.src_ip),
            (text::PATH, Message::Request(call)) => Some(state.changes.path.unwrap_or(call.path)),
            (text::BODY, _) => state.changes.body,
            (text::CONSUMER, _) => state.changes.consumer,
            (text::CREDENTIAL, _) => state.changes.credential,
            (text::ENDED_BY, _) => state.ended_by,
            _ => None,
        })
    })
}

extern "C" fn set_text(call: CallPointer, what: u32, value: Bytes) -> u32 {
    with(call, numbers::REFUSED, |state| {
        let edited = edit::set_text(state, what, bytes(value));
        done(state, edited)
    })
}

extern "C" fn clear_text(call: CallPointer, what: u32) -> u32 {
    with(call, numbers::REFUSED, |state| {
        let edited = edit::clear_text(state, what);
        done(state, edited)
    })
}

fn map_of<'s, 'c>(state: &'s State<'c>, map: u32) -> Option<&'s Overlay<'c>> {
    let (changes, request) = (&state.changes, state.message.is_request());
    match map {
        map::REQUEST_HEADERS if request => Some(&changes.headers),
        map::ARGS if request => Some(&changes.args),
        map::RESPONSE_HEADERS if request => Some(&changes.beside),
        map::RESPONSE_HEADERS => Some(&changes.headers),
        map::ANSWER_HEADERS => state.answer.as_ref().map(|answer| &answer.headers),
        map::SHARED => Some(&changes.shared),
        map::PRIVATE => state.private(),
        map::GROUPS => Some(&changes.groups),
        map::LOG_FIELDS => Some(&changes.log_fields),
        _ => None,
    }
}

extern "C" fn get(call: CallPointer, map: u32, name: Bytes, nth: usize) -> Found {
    // What plugins ask for most.
    if nth == 0 && map == read(call).message.headers_map() {
        loop {
            if let Some(value) = read(call).changes.headers.quick(bytes(name)) {
                return Found::present(value);
            }
            let first_look = read(call).changes.headers.is_unread();
            if !(first_look && begin_headers(call)) {
                break;
            }
        }
    }
    get_any(call, map, name, nth)
}

#[inline(never)]
fn begin_headers(call: CallPointer) -> bool {
    with(call, false, |state| state.changes.headers.begin())
}

#[inline(never)]
extern "C" fn get_any(call: CallPointer, map: u32, name: Bytes, nth: usize) -> Found {
    with(call, Found::nothing(numbers::ABSENT), |state| {
        let map = map_of(state, map);
        found_value(map.and_then(|map| map.get(bytes(name), nth)))
    })
}

extern "C" fn entry(call: CallPointer, map: u32, index: usize) -> FoundEntry {
    let nothing = Found::nothing(numbers::ABSENT);
    let none = FoundEntry {
        name: nothing,
        value: nothing,
    };
    with(call, none, |state| {
        let entry = map_of(state, map).and_then(|map| map.entry(index));
        entry.map_or(none, |entry| FoundEntry {
            name: Found::present(entry.name),
            value: found_value(Some(entry.value)),
        })
    })
}

extern "C" fn edit(call: CallPointer, map: u32, edit: u32, name: Bytes, value: Bytes) -> u32 {
    with(call, numbers::REFUSED, |state| {
        let (name, value) = (bytes(name), bytes(value));
        let edited = edit::map(state, map, edit, name, value);
        done(state, edited)
    })
}

extern "C" fn ask(call: CallPointer, what: u32, name: Bytes) -> Found {
    with(call, Found::nothing(numbers::FAILED), |state| {
        let asked = match (what, state.message) {
            (ask::VARIABLE, _) => Asked::Variable(bytes(name)),
            (ask::REQUEST_BODY, _) => Asked::RequestBody,
            (ask::RESPONSE_BODY, Message::Response(_)) => Asked::ResponseBody,
            _ => return Found::nothing(numbers::ABSENT),
        };
        match state.ask(asked) {
            Ok(value) => found(value),
            Err(error) => {
                state.refusal = state.copy(error.to_string().as_bytes());
                Found::nothing(numbers::FAILED)
            }
        }
    })
}

extern "C" fn error_text(call: CallPointer) -> Found {
    with(call, Found::nothing(numbers::ABSENT), |state| {
        Found::present(state.refusal)
    })
}
