//! The HTTP side of the local gateway: accepts, reads requests as nginx would, writes answers, tells of each.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use super::headers::Headers;
use super::hooks;
use super::inspect::Inspector;
use super::journal::{Kind, Told, now};
use super::page::{html, reason_phrase};
use super::request::Exchange;
use super::response::{Answer, Reply};
use super::routes::{Route, Routes, Stamp};
use super::screen::{Screen, tell};
use super::session::Session;
use super::upstream::Target;

const MAX_HEADERS: usize = 1000;
const SERVER: HeaderValue = HeaderValue::from_static("plugin-runner dev");

/// Everything that requests share.
pub(super) struct Gateway {
    pub(super) session: Session,
    routes: RwLock<Current>,
    file: PathBuf,
    /// Instead of every route's own upstream.
    upstream: Option<Target>,
    pub(super) inspector: Arc<Inspector>,
    screen: Screen,
}

struct Current {
    routes: Arc<Routes>,
    /// The last state of the file that was looked at, good or bad.
    seen: Option<Stamp>,
}

/// Closes the client's connection without an answer.
#[derive(Debug, Error)]
#[error("the gateway drops a client for a status under 200")]
struct Dropped;

type ResponseBody = BoxBody<Bytes, Infallible>;

impl Gateway {
    pub(super) fn new(
        session: Session,
        routes: Routes,
        file: PathBuf,
        upstream: Option<Target>,
        inspector: Inspector,
    ) -> Self {
        let seen = Some(routes.stamp);
        let routes = RwLock::new(Current {
            routes: Arc::new(routes),
            seen,
        });
        Self {
            session,
            routes,
            file,
            upstream,
            inspector: Arc::new(inspector),
            screen: Screen::of_process(),
        }
    }

    /// Accepts until the process ends or this future is dropped.
    pub(super) async fn serve(self: Arc<Self>, listener: TcpListener) -> Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    drop(tokio::spawn(self.clone().serve_connection(stream, peer)))
                }
                Err(error) => {
                    tell(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve_connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let service = service_fn(move |request| {
            let gateway = self.clone();
            async move { gateway.handle(request, peer, local).await }
        });
        let mut builder = http1::Builder::new();
        builder.max_headers(MAX_HEADERS).timer(TokioTimer::new());
        // Ends with an error when the client goes or is dropped: nothing to do about either.
        let _ = builder
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<Response<ResponseBody>, Dropped> {
        let started = Instant::now();
        let method = request.method().as_str().to_owned();
        if Inspector::is_meant(request.uri().path()) {
            let path = request.uri().path();
            return Ok(self.inspector.answer(&method, path).await);
        }
        let target = request
            .uri()
            .path_and_query()
            .map_or("", |target| target.as_str())
            .to_owned();
        let mut hooks = Vec::new();
        let answer = match self.accept(request, &target, peer, local).await {
            Ok(mut exchange) => {
                let upstream = self.upstream_of(&exchange.route);
                hooks::run(&self.session, &mut exchange, &upstream, &mut hooks).await
            }
            Err(refusal) => Answer::Reply(refusal),
        };
        let status = match &answer {
            Answer::Reply(reply) => Some(reply.status),
            Answer::Drop => None,
        };
        self.tell_of(Told {
            number: 0,
            at: now(),
            method,
            target,
            status,
            hooks,
            took: started.elapsed(),
        });
        match answer {
            Answer::Reply(reply) => Ok(write(reply)),
            Answer::Drop => Err(Dropped),
        }
    }

    /// Not in the request's way: what the plugins did is known a moment later.
    fn tell_of(&self, told: Told) {
        let (inspector, screen) = (self.inspector.clone(), self.screen);
        drop(tokio::spawn(async move {
            screen.request(&inspector.journal.request(told).await);
        }));
    }

    /// Reads a request and finds its route. Refusals are nginx's and APISIX's own.
    async fn accept(
        &self,
        request: Request<Incoming>,
        target: &str,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Result<Exchange, Reply> {
        let (parts, body) = request.into_parts();
        let method = parts.method.as_str();
        if method == "TRACE" || method == "CONNECT" {
            return Err(refusal(405));
        }
        let host = host_of(&parts);
        if host.is_none() && parts.version != Version::HTTP_10 {
            return Err(refusal(400));
        }
        let uri = hooks::routing_path(target).ok_or_else(|| refusal(400))?;
        let route = self
            .current_routes()
            .find(method, &uri)
            .ok_or_else(not_found)?;
        let mut headers = Headers::default();
        let mut request_length = method.len() + target.len() + " HTTP/1.1\r\n\r\n".len() + 1;
        for (name, value) in &parts.headers {
            headers.add(name.as_str(), value.as_bytes());
            request_length += name.as_str().len() + value.len() + ": \r\n".len();
        }
        let upstream_host = host.unwrap_or_default().to_vec();
        add_forwarded(&mut headers, host, local);
        let remote_addr = real_address(&headers, peer);
        let body = body.collect().await.map_err(|_| refusal(400))?.to_bytes();
        Ok(Exchange {
            route,
            method: method.to_owned(),
            target: target.as_bytes().to_vec(),
            protocol: if parts.version == Version::HTTP_10 {
                "HTTP/1.0"
            } else {
                "HTTP/1.1"
            },
            uri,
            args: target
                .split_once('?')
                .map(|(_, args)| args.as_bytes().to_vec())
                .filter(|args| !args.is_empty()),
            args_changed: false,
            upstream_uri: Vec::new(),
            headers,
            upstream_host,
            request_length: request_length + body.len(),
            body,
            peer,
            local,
            remote_addr,
            request_id: super::random_hex(32),
            outgoing: Headers::default(),
            upstream_reply: None,
            response_body_taken: false,
            call: None,
        })
    }

    fn upstream_of(&self, route: &Route) -> Target {
        let own = || {
            route
                .node()
                .map_or(Target::Echo, |node| Target::Node(node.to_owned()))
        };
        self.upstream.clone().unwrap_or_else(own)
    }

    /// The routes as the file has them now; the last good ones while it has a fault.
    fn current_routes(&self) -> Arc<Routes> {
        let stamp = Stamp::of(&self.file).ok();
        {
            let current = self.routes.read().unwrap_or_else(PoisonError::into_inner);
            if current.seen == stamp {
                return current.routes.clone();
            }
        }
        let mut current = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        if current.seen != stamp {
            current.seen = stamp;
            self.read_again(&mut current);
        }
        current.routes.clone()
    }

    fn read_again(&self, current: &mut Current) {
        match Routes::read(&self.file) {
            Ok(routes) => {
                tell(&format!(
                    "{}: read again, {} routes",
                    self.file.display(),
                    routes.len()
                ));
                warn(&routes);
                // Two edits within a second give the same keys: no token may outlive its configuration.
                self.session.flush_tokens();
                let text = format!("the routes were read again: {} routes", routes.len());
                self.inspector.journal.note(Kind::Info, &text);
                current.routes = Arc::new(routes);
            }
            Err(faults) => {
                let text = format!("{faults}\nthe routes before this change go on serving");
                self.inspector.journal.note(Kind::Fault, &text);
                tell(&text);
            }
        }
    }
}

/// Tells the warnings of a routes file.
pub(super) fn warn(routes: &Routes) {
    for warning in &routes.warnings {
        tell(&format!("warning: {warning}"));
    }
}

/// gateway: proto, host and port are always its own; `_` stands for no host.
fn add_forwarded(headers: &mut Headers, host: Option<&[u8]>, local: SocketAddr) {
    headers.set("x-forwarded-proto", "http");
    headers.set("x-forwarded-host", host.unwrap_or(b"_"));
    headers.set("x-forwarded-port", local.port().to_string());
}

/// gateway: `real_ip_from 127.0.0.1`, `real_ip_header X-Real-IP`.
fn real_address(headers: &Headers, peer: SocketAddr) -> IpAddr {
    let told = headers
        .get("x-real-ip")
        .filter(|_| peer.ip() == Ipv4Addr::LOCALHOST);
    let told = told.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    told.unwrap_or(peer.ip())
}

fn refusal(status: u16) -> Reply {
    let mut headers = Headers::default();
    headers.add("content-type", "text/html; charset=utf-8");
    let body = html(status, None).unwrap_or_default().into();
    Reply {
        status,
        reason: None,
        headers,
        body,
        sized: true,
    }
}

fn not_found() -> Reply {
    let mut headers = Headers::default();
    headers.add("content-type", "text/plain; charset=utf-8");
    let body = "{\"error_msg\":\"404 Route Not Found\"}\n".into();
    Reply {
        status: 404,
        reason: None,
        headers,
        body,
        sized: false,
    }
}

fn write(reply: Reply) -> Response<ResponseBody> {
    let body = if reply.sized {
        Full::new(reply.body).boxed()
    } else {
        Unsized(Some(reply.body)).boxed()
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = reply
        .reason
        .unwrap_or_else(|| reason_phrase(reply.status).into());
    if let Ok(reason) = ReasonPhrase::try_from(reason) {
        response.extensions_mut().insert(reason);
    }
    for (name, value) in reply.headers.iter() {
        // Framing is the server's own; the gateway sets its own name.
        let own = [&b"transfer-encoding"[..], b"connection", b"server"];
        if own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            continue;
        }
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert("server", SERVER);
    response
}

/// A body that does not tell its length, so that it goes out chunked or with the length that a plugin has set.
struct Unsized(Option<Bytes>);

impl Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(
            self.0
                .take()
                .filter(|bytes| !bytes.is_empty())
                .map(|bytes| Ok(Frame::data(bytes))),
        )
    }
}

/// The host that the client asks for: in the request line before the header (RFC 9112, 3.2.2).
fn host_of(parts: &hyper::http::request::Parts) -> Option<&[u8]> {
    let authority = parts.uri.authority();
    let header = parts.headers.get("host").map(HeaderValue::as_bytes);
    authority
        .map(|authority| authority.as_str().as_bytes())
        .or(header)
}
