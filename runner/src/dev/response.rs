//! Answers to the client: what a Stop, a response call, an upstream's reply or a failure turns into.

use hyper::body::Bytes;

use super::headers::{Headers, escape_name, escape_value};
use super::page;
use super::reply::{Entry, ResponseChange};
use super::request::Exchange;
use super::session::Failure;
use super::upstream::UpstreamReply;

/// Names that a rewrite's response headers and an untouched upstream response lose.
const EXCLUDED: [&str; 10] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "location",
    "server",
    "www-authenticate",
    "content-encoding",
    "content-type",
    "content-location",
    "content-language",
];
/// What nginx does not pass on from an upstream.
const NOT_PASSED: [&str; 9] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "server",
    "x-pad",
    "x-accel-redirect",
    "x-accel-expires",
    "x-accel-charset",
];

/// What the client gets.
#[derive(Debug)]
pub(super) enum Answer {
    Reply(Reply),
    /// Nothing: the connection is closed, as nginx does for a status under 200.
    Drop,
}

/// A whole response, before it is written.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) reason: Option<Vec<u8>>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
    /// Sent with a length (pages, upstream replies) or chunked (what a plugin printed).
    pub(super) sized: bool,
}

/// The answer to a request that a hook ended: a body as it is, or nginx's page for the status.
pub(super) fn exit(
    exchange: &mut Exchange,
    status: u16,
    body: Vec<u8>,
    reason: Option<&str>,
) -> Answer {
    if body.is_empty() && status >= 300 && known_status(status) == Some(status) {
        page(exchange, status, reason)
    } else {
        printed(exchange, status, body.into())
    }
}

/// A response whose body the gateway prints itself, with the headers that hooks have set.
pub(super) fn printed(exchange: &mut Exchange, status: u16, body: Bytes) -> Answer {
    let Some(status) = known_status(status) else {
        return Answer::Drop;
    };
    let mut headers = std::mem::take(&mut exchange.outgoing);
    if status == 204 || status == 304 {
        headers.remove(b"content-type");
    } else if !headers.contains("content-type") {
        headers.add("content-type", "text/plain; charset=utf-8");
    }
    Answer::Reply(Reply {
        status,
        reason: None,
        headers,
        body,
        sized: false,
    })
}

/// The page that nginx writes for a status, with the reason on it if there is something to tell.
pub(super) fn page(exchange: &mut Exchange, status: u16, reason: Option<&str>) -> Answer {
    let mut headers = std::mem::take(&mut exchange.outgoing);
    for name in [
        "content-length",
        "content-type",
        "etag",
        "last-modified",
        "accept-ranges",
    ] {
        headers.remove(name.as_bytes());
    }
    let body = page::html(status, reason).map(Bytes::from);
    if body.is_some() {
        let charset = if status < 400 {
            "text/html"
        } else {
            "text/html; charset=utf-8"
        };
        headers.add("content-type", charset);
    }
    let body = body.unwrap_or_default();
    Answer::Reply(Reply {
        status,
        reason: None,
        headers,
        body,
        sized: true,
    })
}

/// The upstream's reply, beside the headers that hooks have set.
pub(super) fn proxied(exchange: &mut Exchange, upstream: UpstreamReply) -> Answer {
    let mut headers = std::mem::take(&mut exchange.outgoing);
    headers.remove(b"content-type");
    headers.remove(b"content-length");
    let bodiless = exchange.method == "HEAD" || upstream.status == 304;
    for (name, value) in upstream.headers.iter() {
        let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
        let passed =
            !NOT_PASSED.contains(&lower.as_str()) && (bodiless || lower != "content-length");
        if passed {
            headers.add(name, value);
        }
    }
    let UpstreamReply {
        status,
        reason,
        body,
        ..
    } = upstream;
    Answer::Reply(Reply {
        status,
        reason: Some(reason),
        headers,
        body,
        sized: true,
    })
}

/// Sets the headers that a response call leaves: the runner's alone, or the upstream's without the excluded ones.
pub(super) fn apply_change(
    exchange: &mut Exchange,
    change: &mut ResponseChange,
) -> Result<(), Failure> {
    if !change.headers.is_empty() {
        return set_or_add(
            &mut exchange.outgoing,
            std::mem::take(&mut change.headers).into_iter(),
        );
    }
    let upstream = exchange
        .upstream_reply
        .as_ref()
        .map(|reply| reply.headers.clone())
        .unwrap_or_default();
    let told = |(name, value): (&[u8], &[u8])| Entry {
        name: Some(name.to_vec()),
        value: Some(value.to_vec()),
    };
    let kept = upstream
        .iter()
        .map(told)
        .filter(|entry| !is_excluded(entry.name.as_deref()));
    set_case_kept(&mut exchange.outgoing, kept);
    Ok(())
}

/// Whether a header of this name may not pass from a rewrite or an untouched response.
pub(super) fn is_excluded(name: Option<&[u8]>) -> bool {
    name.is_some_and(|name| {
        EXCLUDED
            .iter()
            .any(|excluded| name.eq_ignore_ascii_case(excluded.as_bytes()))
    })
}

/// The first of a name replaces, further ones add; an absent or empty value removes or adds nothing.
pub(super) fn set_or_add(
    headers: &mut Headers,
    entries: impl Iterator<Item = Entry>,
) -> Result<(), Failure> {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let name = entry
            .name
            .ok_or_else(|| Failure::Broken("a header without a name".to_owned()))?;
        let name = name.to_ascii_lowercase();
        let again = seen.contains(&name);
        if again && entry.value.is_none() {
            let name = String::from_utf8_lossy(&name);
            return Err(Failure::Broken(format!(
                "a repeat of header {name} without a value"
            )));
        }
        put(
            headers,
            &escape_name(&name),
            &escape_value(&entry.value.unwrap_or_default()),
            again,
        );
        seen.push(name);
    }
    Ok(())
}

fn set_case_kept(headers: &mut Headers, entries: impl Iterator<Item = Entry>) {
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for entry in entries {
        let (Some(name), Some(value)) = (entry.name, entry.value) else {
            continue;
        };
        let lower = name.to_ascii_lowercase();
        put(headers, &name, &value, seen.contains(&lower));
        seen.push(lower);
    }
}

fn put(headers: &mut Headers, name: &[u8], value: &[u8], again: bool) {
    if !again {
        headers.remove(name);
    }
    if !value.is_empty() {
        headers.add(name, value);
    }
}

/// The status that reaches the client: 200 for one that nginx refuses to set, none for one that makes it close.
fn known_status(status: u16) -> Option<u16> {
    match status {
        0..200 => None,
        200..=999 => Some(status),
        _ => Some(200),
    }
}
