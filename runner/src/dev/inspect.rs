//! The page about the runner on the local gateway's own port: plugins, generations, recent requests and what each plugin
//! changed. One self-contained document that reads well without scripts; with them it stays up to date.
//!
//! - `/__plugin_runner` the page, `…/part` what is in its middle
//! - `…/state` the same facts as JSON
//! - `…/events` server-sent events: `changed` whenever there is something new

mod html;

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use super::journal::{Journal, Note, Told};
use crate::config::{self, Config, Sources};
use crate::supervise::admin::client;
use crate::supervise::admin::message::{Answer, Request, Status};

/// Where the page is. No route of the gateway gets requests for it or for what is below.
pub(super) const PATH: &str = "/__plugin_runner";

/// A person waits for the page; a runner that hangs says so.
const PATIENCE: Duration = Duration::from_secs(2);
/// Several changes in a moment are one event.
const PAUSE: Duration = Duration::from_millis(100);
/// Nothing from anywhere else: what plugins and clients write is shown, and never runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) type PageBody = BoxBody<Bytes, Infallible>;

/// What the page tells of.
pub(super) struct Inspector {
    pub(super) journal: Arc<Journal>,
    runner: Option<Whom>,
}

/// Whom to ask for the runner's state.
struct Whom {
    config: Config,
    /// 0: it is not running.
    pid: AtomicU32,
}

/// Everything on the page.
#[derive(serde::Serialize)]
struct Facts {
    /// What the runner says of itself, or why not.
    runner: Result<Box<Status>, String>,
    requests: Vec<Told>,
    notes: Vec<Note>,
}

impl Inspector {
    /// `socket`: of the runner that we start; `None`: it is somebody else's, and is not asked.
    ///
    /// # Errors
    /// The configuration has faults.
    pub(super) fn new(
        journal: Arc<Journal>,
        socket: Option<PathBuf>,
        config: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let runner = socket.map(|socket| {
            let mut sources = Sources::of_process(config, None)?;
            sources.needs_plugins = false;
            let mut config = config::load(&sources)?;
            config.socket.file = socket;
            let pid = AtomicU32::new(0);
            anyhow::Ok(Whom { config, pid })
        });
        let runner = runner.transpose()?;
        Ok(Self { journal, runner })
    }

    /// The runner is this process now.
    pub(super) fn runner_is(&self, pid: u32) {
        if let Some(runner) = &self.runner {
            runner.pid.store(pid, Ordering::Relaxed);
        }
    }

    /// Whether a request is for the page, and not for the gateway.
    pub(super) fn is_meant(path: &str) -> bool {
        let below = path.strip_prefix(PATH);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Answers a request for the page or what belongs to it.
    pub(super) async fn answer(self: &Arc<Self>, method: &str, path: &str) -> Response<PageBody> {
        const HTML: &str = "text/html; charset=utf-8";
        if method != "GET" && method != "HEAD" {
            return response(
                StatusCode::METHOD_NOT_ALLOWED,
                "text/plain",
                "GET it\n".into(),
            );
        }
        let ok = StatusCode::OK;
        match path.strip_prefix(PATH).unwrap_or_default() {
            "" | "/" => response(ok, HTML, html::page(&self.facts().await)),
            "/part" => response(ok, HTML, html::part(&self.facts().await)),
            "/state" => {
                let text = serde_json::to_string(&self.facts().await).unwrap_or_default();
                response(ok, "application/json", text)
            }
            "/events" => self.events(),
            _ => {
                let text = format!("there is {PATH}, {PATH}/state and {PATH}/events\n");
                response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", text)
            }
        }
    }

    async fn facts(&self) -> Facts {
        let (requests, notes) = self.journal.lately();
        Facts {
            runner: self.status().await,
            requests,
            notes,
        }
    }

    async fn status(&self) -> Result<Box<Status>, String> {
        let Some(runner) = &self.runner else {
            return Err("the runner was not started by this gateway".to_owned());
        };
        let pid = runner.pid.load(Ordering::Relaxed);
        if pid == 0 {
            return Err("the runner is not running".to_owned());
        }
        let config = runner.config.clone();
        let ask = move || client::ask(&config, Some(pid), &Request::Status);
        match timeout(PATIENCE, tokio::task::spawn_blocking(ask)).await {
            Ok(Ok(Ok(Answer::Status(status)))) => Ok(status),
            Ok(Ok(Ok(_))) => Err("the runner answered another question".to_owned()),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the runner did not answer within 2 s".to_owned()),
        }
    }

    fn events(&self) -> Response<PageBody> {
        let (sender, receiver) = channel::<Bytes>(1);
        let mut changes = self.journal.changes();
        drop(tokio::spawn(async move {
            // The first one says that it works; browsers ask again 1 s after the end.
            let mut event = Bytes::from_static(b"retry: 1000\nevent: changed\ndata: 0\n\n");
            loop {
                if sender.send(event).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                tokio::time::sleep(PAUSE).await;
                let number = *changes.borrow_and_update();
                event = Bytes::from(format!("event: changed\ndata: {number}\n\n"));
            }
        }));
        let mut response = Response::new(Stream(receiver).boxed());
        headers(&mut response, "text/event-stream");
        response
    }
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<PageBody> {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    headers(&mut response, kind);
    response
}

fn headers(response: &mut Response<PageBody>, kind: &'static str) {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", kind),
        ("cache-control", "no-store"),
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// A body that goes on for as long as somebody reads it.
struct Stream(Receiver<Bytes>);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
