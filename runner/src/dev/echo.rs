//! The upstream inside: answers 200 with what it was sent.
//!
//! The body is plain text: `METHOD target`, then one `name: value` line per header in wire order, an empty line,
//! and the request's body as it came. Lines end with `\n`.

use super::headers::Headers;
use super::page;
use super::upstream::{UpstreamReply, UpstreamRequest};

/// Answers a request. A request without a host gets 400, as any HTTP/1.1 server answers.
pub(super) fn answer(request: &UpstreamRequest) -> UpstreamReply {
    let mut headers = Headers::default();
    headers.add("Content-Type", "text/plain; charset=utf-8");
    if request.headers.get("host").unwrap_or_default().is_empty() {
        headers.set("Content-Type", "text/html");
        let body = page::html(400, Some("the request has no host"))
            .unwrap_or_default()
            .into();
        return UpstreamReply {
            status: 400,
            reason: b"Bad Request".to_vec(),
            headers,
            body,
        };
    }
    let mut body = Vec::new();
    body.extend_from_slice(request.method.as_bytes());
    body.push(b' ');
    body.extend_from_slice(&request.target);
    body.push(b'\n');
    for (name, value) in request.headers.iter() {
        body.extend_from_slice(name);
        body.extend_from_slice(b": ");
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body.push(b'\n');
    body.extend_from_slice(&request.body);
    headers.add("Content-Length", body.len().to_string());
    if request.method == "HEAD" {
        body.clear();
    }
    UpstreamReply {
        status: 200,
        reason: b"OK".to_vec(),
        headers,
        body: body.into(),
    }
}
