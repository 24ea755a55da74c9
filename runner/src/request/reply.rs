//! Writes what a chain has decided.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use plugin_api::rules;

use crate::protocol::frame::TooLong;
use crate::protocol::message::{self, Entries, Entry, RequestCall, ResponseCall, Rewrite};

use super::overlay::Overlay;
use super::state::{Answer, Changes, Message, State};

/// Appends exactly one reply frame.
///
/// # Errors
/// The reply does not fit into a frame; nothing was appended.
pub fn write(state: &State<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    match (state.message, &state.answer) {
        (Message::Request(call), Some(answer)) => stop(call, answer, &state.changes, out),
        (Message::Request(call), None) => rewrite(call, &state.changes, state.arena, out),
        (Message::Response(call), Some(answer)) => {
            let headers = answer.headers.changed_entries();
            let headers = headers.clone().chain(stand_in(headers));
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

/// As [`write`], but for a large body: only what stands before it is appended, and the frame is whole when the rest has come
/// from [`Bodies::into_reply`](super::bodies::Bodies::into_reply). Returns the body's position there.
///
/// # Errors
/// As [`write`].
#[inline]
pub fn write_head(state: &mut State<'_>, out: &mut Vec<u8>) -> Result<Option<usize>, TooLong> {
    let body = match &state.answer {
        Some(answer) => Some(answer.body),
        None => state.changes.body,
    };
    let large = body.and_then(|body| Some((body, state.bodies.position(body)?)));
    let Some((body, position)) = large else {
        return write(state, out).map(|()| None);
    };
    let start = out.len();
    set_body(state, message::reply::STAND_IN);
    let written = write(state, out);
    set_body(state, body);
    written?;
    message::reply::leave_body_out(out, start, body.len())?;
    Ok(Some(position))
}

fn set_body<'c>(state: &mut State<'c>, body: &'c [u8]) {
    match &mut state.answer {
        Some(answer) => answer.body = body,
        None => state.changes.body = Some(body),
    }
}

/// The gateway's default is 0, and it is also the protocol's.
fn status_of(status: u16) -> Option<u16> {
    (status != 0).then_some(status)
}

/// What earlier plugins have set for the client's response goes out with the answer, as it does with the upstream's.
fn stop<'c>(
    call: RequestCall<'c>,
    answer: &Answer<'c>,
    changes: &Changes<'c>,
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

/// As most plugins do. To be asked when something has changed.
#[inline]
fn changes_headers_alone(changes: &Changes<'_>) -> bool {
    changes.path.is_none()
        && changes.body.is_none()
        && changes.args.changes().is_empty()
        && changes.beside.changes().is_empty()
}

fn rewrite<'c>(
    call: RequestCall<'c>,
    changes: &Changes<'c>,
    arena: &'c Bump,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    if changes_nothing(changes) {
        message::unchanged(out, call.id);
        return Ok(());
    }
    if changes_headers_alone(changes) {
        return message::rewrite_headers(out, call.id, changes.headers.edits());
    }
    let flags = flags(changes, arena);
    let kept = changes
        .path
        .map(|_| kept_args(&call, &changes.args, &flags));
    message::rewrite(
        out,
        call.id,
        &Rewrite {
            path: changes.path,
            headers: changes.headers.edits(),
            args: kept.into_iter().flatten().chain(changes.args.edits()),
            resp_headers: changes.beside.changed_entries(),
            body: changes.body,
        },
    )
}

/// The names that came as a flag and will be kept, in order; needed only where a path is sent.
fn flags<'c>(changes: &Changes<'c>, arena: &'c Bump) -> ArenaVec<'c, &'c [u8]> {
    let mut flags = ArenaVec::new_in(arena);
    if changes.path.is_some() {
        let unchanged = changes.args.unchanged();
        flags.extend(unchanged.filter_map(|entry| entry.value.is_none().then_some(entry.name)));
        flags.sort_unstable();
    }
    flags
}

/// APISIX before 3.16 loses the client's query when a path comes without args, so the client's own go along with it.
/// A flag (`?a`) cannot be sent, as no value means "delete"; where there are flags only, a deletion of a name that
/// does not exist keeps them all.
fn kept_args<'s, 'c>(
    call: &RequestCall<'c>,
    args: &'s Overlay<'c>,
    flags: &'s [&'c [u8]],
) -> impl Iterator<Item = Entry<'c>> + Clone + use<'s, 'c> {
    // A name that is sent replaces all values of it, so one that also came as a flag stays as it is.
    let also_flag = move |name: &[u8]| flags.binary_search(&name).is_ok();
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
    let new_body = changes.body.is_some();
    let length = |name: &[u8]| new_body && name.eq_ignore_ascii_case(b"content-length");
    let of_connection = of_the_connection(call.headers);
    let kept = changes
        .headers
        .unchanged()
        .filter(move |entry| !of_connection(entry.name) && !length(entry.name));
    let headers = kept.chain(changes.headers.changed_entries());
    let headers = headers.clone().chain(stand_in(headers));
    message::response(out, call.id, changes.status, headers, changes.body)
}

/// Whether a header belongs to the upstream's connection (RFC 9110 section 7.6.1): by its name, or because the
/// upstream's own Connection headers list it.
fn of_the_connection<'c>(upstreams: Entries<'c>) -> impl Fn(&[u8]) -> bool + Clone + use<'c> {
    let is_connection = |entry: &Entry<'_>| entry.name.eq_ignore_ascii_case(b"connection");
    let lists = upstreams.iter().any(|entry| is_connection(&entry));
    let listed = move |name: &[u8]| {
        let mut lists = upstreams.iter().filter(is_connection);
        lists.any(|list| {
            let mut names = list.value.unwrap_or_default().split(|byte| *byte == b',');
            names.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(name))
        })
    };
    move |name| rules::is_hop_by_hop(name) || lists && listed(name)
}

/// A header to send when there is none: without any the gateway would send the upstream's, also those that a plugin
/// has removed. It is the one that nginx would add by itself.
fn stand_in<'c>(mut headers: impl Iterator<Item = Entry<'c>>) -> Option<Entry<'static>> {
    headers.next().is_none().then_some(Entry {
        name: b"Content-Type",
        value: Some(b"text/plain"),
    })
}

#[cfg(test)]
mod tests;
