//! Writes what a chain has decided.

use plugin_api::rules;

use crate::protocol::frame::TooLong;
use crate::protocol::message::{self, Entry, RequestCall, ResponseCall, Rewrite};

use super::overlay::Overlay;
use super::state::{Answer, Changes, Message, State};

/// Appends exactly one reply frame.
///
/// # Errors
/// The reply does not fit into a frame; nothing was appended.
pub fn write(state: &State<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match (state.message, &state.answer) {
        (Message::Request(call), Some(answer)) => stop(call, answer, &state.changes, out),
        (Message::Request(call), None) => rewrite(call, &state.changes, out),
        (Message::Response(call), Some(answer)) => {
            let headers = answer.headers.changed_entries();
            message::response(
                out,
                call.id,
                status_of(answer.status),
                headers,
                Some(answer.body),
            )
        }
        (Message::Response(call), None) => response(call, &state.changes, out),
    }
}

/// The gateway's default is 0, and it is also the protocol's.
fn status_of(status: u16) -> Option<u16> {
    (status != 0).then_some(status)
}

/// What earlier plugins have set for the client's response goes out with the answer, as it does with the upstream's.
fn stop(
    call: RequestCall<'_>,
    answer: &Answer<'_>,
    changes: &Changes<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let beside = changes.beside.changed_entries();
    let beside = beside.filter(|entry| answer.headers.change(entry.name).is_none());
    let headers = answer.headers.changed_entries().chain(beside);
    message::stop(out, call.id, answer.status, headers, answer.body)
}

/// Whether plugins have changed nothing that the gateway would have to know.
pub fn changes_nothing(changes: &Changes<'_>) -> bool {
    changes.path.is_none()
        && changes.body.is_none()
        && changes.status.is_none()
        && changes.headers.changes().is_empty()
        && changes.args.changes().is_empty()
        && changes.beside.changes().is_empty()
}

fn rewrite(call: RequestCall<'_>, changes: &Changes<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    if changes_nothing(changes) {
        message::unchanged(out, call.id);
        return Ok(());
    }
    let kept = changes.path.map(|_| kept_args(&call, &changes.args));
    message::rewrite(
        out,
        call.id,
        &Rewrite {
            path: changes.path,
            headers: edits(&changes.headers),
            args: kept.into_iter().flatten().chain(edits(&changes.args)),
            resp_headers: changes.beside.changed_entries(),
            body: changes.body,
        },
    )
}

/// All changes of a map, as the gateway takes them: a name without a value deletes. A name that plugins have given
/// more values keeps those of the client, where a flag then has an empty value.
fn edits<'s, 'c>(map: &'s Overlay<'c>) -> impl Iterator<Item = Entry<'c>> + Clone + use<'s, 'c> {
    map.changes().iter().flat_map(|change| {
        let name = change.name;
        let removed = change
            .values
            .is_empty()
            .then_some(Entry { name, value: None });
        let values = change.values.iter();
        values
            .map(move |value| Entry {
                name,
                value: Some(value.unwrap_or_default()),
            })
            .chain(removed)
    })
}

/// APISIX before 3.16 loses the client's query when a path comes without args, so the client's own go along with it.
/// A flag (`?a`) cannot be sent, as no value means "delete"; where there are flags only, a deletion of a name that
/// does not exist keeps them all.
fn kept_args<'s, 'c>(
    call: &RequestCall<'c>,
    args: &'s Overlay<'c>,
) -> impl Iterator<Item = Entry<'c>> + Clone + use<'s, 'c> {
    // A name that is sent replaces all values of it, so one that also came as a flag stays as it is.
    let also_flag = move |name: &[u8]| {
        args.unchanged()
            .any(|entry| entry.name == name && entry.value.is_none())
    };
    let kept = args.unchanged().filter(move |entry| !also_flag(entry.name));
    let flags_only =
        args.changes().is_empty() && !call.args.is_empty() && kept.clone().next().is_none();
    let nobody = Entry {
        name: b"plugin-runner-keeps-flags",
        value: None,
    };
    kept.chain(flags_only.then_some(nobody))
}

/// The full set of headers, changed or not: with none the gateway drops Content-Type, Location and others, and with
/// one it drops all that are not there.
fn response(
    call: ResponseCall<'_>,
    changes: &Changes<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let connection = changes
        .headers
        .get(b"connection", 0)
        .flatten()
        .unwrap_or_default();
    let new_body = changes.body.is_some();
    let length = |name: &[u8]| new_body && name.eq_ignore_ascii_case(b"content-length");
    let kept = changes
        .headers
        .unchanged()
        .filter(move |entry| !is_dropped(entry.name, connection) && !length(entry.name));
    let headers = kept.chain(changes.headers.changed_entries());
    message::response(out, call.id, changes.status, headers, changes.body)
}

/// Headers of the upstream's connection (RFC 9110 section 7.6.1).
fn is_dropped(name: &[u8], connection: &[u8]) -> bool {
    let mut listed = connection
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii);
    rules::is_hop_by_hop(name) || listed.any(|named| named.eq_ignore_ascii_case(name))
}
