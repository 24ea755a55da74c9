//! Requests to an upstream: what the gateway makes of an exchange, and the whole reply, names in the upstream's case.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::echo;
use super::headers::Headers;
use super::page::reason_phrase;
use super::percent;
use super::request::Exchange;
use super::rewrite::append_query;
use super::tap::Tap;

/// gateway: connect, send and read timeouts of an upstream, 60 s each.
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 1000;
/// Headers that belong to one hop; the client writes its own.
const OWN: [&str; 7] = [
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "te",
    "upgrade",
    "expect",
];

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port`
    Node(String),
    Echo,
}

/// A request as an upstream gets it.
#[derive(Debug, Clone)]
pub(super) struct UpstreamRequest {
    pub(super) method: String,
    /// Path with query, percent-encoded.
    pub(super) target: Vec<u8>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

/// A whole reply; header names in the upstream's case.
#[derive(Debug, Clone)]
pub(super) struct UpstreamReply {
    pub(super) status: u16,
    pub(super) reason: Vec<u8>,
    pub(super) headers: Headers,
    pub(super) body: Bytes,
}

impl UpstreamRequest {
    /// The request as nginx proxies it: its own address headers first, hop-by-hop headers gone.
    pub(super) fn proxied(exchange: &Exchange) -> Self {
        let mut headers = Headers::default();
        headers.add("host", exchange.upstream_host.clone());
        let address = exchange.remote_addr.to_string();
        headers.add("x-real-ip", address.clone());
        let chain = exchange
            .headers
            .all("x-forwarded-for")
            .chain([address.as_bytes()]);
        headers.add(
            "x-forwarded-for",
            chain.collect::<Vec<_>>().join(&b", "[..]),
        );
        let body = declared_body(exchange);
        let has_body = exchange.headers.contains("content-length") || !body.is_empty();
        if has_body {
            headers.add("content-length", body.len().to_string());
        }
        let written = |name: &[u8]| {
            [&b"host"[..], b"x-real-ip", b"x-forwarded-for"].contains(&name) || is_own(name)
        };
        for (name, value) in exchange.headers.iter().filter(|(name, _)| !written(name)) {
            headers.add(name, value);
        }
        let target = if !exchange.upstream_uri.is_empty() {
            exchange.upstream_uri.clone()
        } else if exchange.args_changed {
            plain_target(exchange)
        } else {
            exchange.target.clone()
        };
        Self {
            method: exchange.method.clone(),
            target,
            headers,
            body,
        }
    }

    /// The request as ext-plugin-post-resp sends it itself: the client's headers as they are, the decoded path.
    pub(super) fn fetched(exchange: &Exchange) -> Self {
        let target = if exchange.upstream_uri.is_empty() {
            plain_target(exchange)
        } else {
            let mut target = exchange.upstream_uri.clone();
            if !target.contains(&b'?') {
                append_query(&mut target, exchange.args.as_deref());
            }
            target
        };
        let headers = exchange.headers.clone();
        Self {
            method: exchange.method.clone(),
            target,
            headers,
            body: declared_body(exchange),
        }
    }

    /// Sends the request and reads the whole reply. Errors say which step failed.
    pub(super) async fn send(&self, to: &Target) -> anyhow::Result<UpstreamReply> {
        if !self.target.starts_with(b"/") {
            let target = String::from_utf8_lossy(&self.target);
            anyhow::bail!(
                "the rewritten path `{target}` has no leading `/`: the gateway glues it to the host name"
            );
        }
        match to {
            Target::Echo => Ok(echo::answer(self)),
            Target::Node(address) => self.send_to(address).await,
        }
    }

    async fn send_to(&self, address: &str) -> anyhow::Result<UpstreamReply> {
        let connected = timeout(TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected
            .with_context(|| format!("timeout while connecting to upstream {address}"))?
            .with_context(|| format!("cannot connect to upstream {address}"))?;
        let (tap, head) = Tap::new(stream);
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS);
        let (mut sender, connection) = builder.handshake(TokioIo::new(tap)).await?;
        tokio::spawn(connection);
        let exchange = async {
            let reply = sender.send_request(self.to_hyper()?).await?;
            let (parts, body) = reply.into_parts();
            anyhow::Ok((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("timeout while reading from upstream {address}"))?
            .with_context(|| format!("upstream {address} failed"))?;
        let status = parts.status.as_u16();
        let reason = parts.extensions.get::<ReasonPhrase>();
        let reason = reason
            .map_or(reason_phrase(status).as_bytes(), ReasonPhrase::as_bytes)
            .to_vec();
        let mut headers = Headers::default();
        for (name, value) in &parts.headers {
            headers.add(head.as_written(name.as_str()), value.as_bytes());
        }
        Ok(UpstreamReply {
            status,
            reason,
            headers,
            body,
        })
    }

    fn to_hyper(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::from_bytes(self.method.as_bytes())?;
        let target = Uri::try_from(self.target.as_slice());
        *request.uri_mut() = target.context("the request target cannot be sent")?;
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_own(name)) {
            request.headers_mut().append(
                HeaderName::from_bytes(name)?,
                HeaderValue::from_bytes(value)?,
            );
        }
        if self.body.is_empty() && self.headers.contains("content-length") {
            request
                .headers_mut()
                .insert("content-length", HeaderValue::from_static("0"));
        }
        Ok(request)
    }
}

fn is_own(name: &[u8]) -> bool {
    OWN.iter()
        .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

fn plain_target(exchange: &Exchange) -> Vec<u8> {
    let mut target = percent::encode_path(&exchange.uri);
    append_query(&mut target, exchange.args.as_deref());
    target
}

/// The body, cut to the Content-Length that a hook may have set.
fn declared_body(exchange: &Exchange) -> Bytes {
    let declared = exchange
        .headers
        .get("content-length")
        .and_then(|value| std::str::from_utf8(value).ok());
    match declared.and_then(|value| value.parse::<usize>().ok()) {
        Some(length) if length < exchange.body.len() => exchange.body.slice(..length),
        _ => exchange.body.clone(),
    }
}
