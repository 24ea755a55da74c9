//! The life of one request: pre-req, post-req, then the upstream, with post-resp around its reply.

use super::journal::Hook as Note;
use super::percent;
use super::reply::{self, Action};
use super::request::Exchange;
use super::response::{self, Answer};
use super::rewrite;
use super::routes::Hook;
use super::session::{Failure, Session};
use super::upstream::{Target, UpstreamRequest};
use super::wire;

const ATTEMPTS: usize = 3;

/// Which call a hook makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Request,
    Response,
}

/// What a call came to.
struct Verdict {
    action: &'static str,
    /// Request: the status to answer with. Response: a status to set.
    status: Option<u16>,
    /// `Some` in a request call only if `status` is.
    body: Option<Vec<u8>>,
}

/// Takes an exchange through its route's hooks and the upstream. `notes` gets what each hook came to.
pub(super) async fn run(
    session: &Session,
    exchange: &mut Exchange,
    upstream: &Target,
    notes: &mut Vec<Note>,
) -> Answer {
    let route = exchange.route.clone();
    let request_hooks = [("pre-req", &route.pre_req), ("post-req", &route.post_req)];
    for (name, hook) in request_hooks {
        let Some(hook) = hook else { continue };
        if let Some(answer) = request_hook(session, exchange, hook, name, notes).await {
            return answer;
        }
    }
    if let Some(hook) = &route.post_resp
        && let Some(answer) = response_hook(session, exchange, hook, upstream, notes).await
    {
        return answer;
    }
    match UpstreamRequest::proxied(exchange).send(upstream).await {
        Ok(reply) => response::proxied(exchange, reply),
        Err(error) => bad_gateway(exchange, &error, notes),
    }
}

async fn request_hook(
    session: &Session,
    exchange: &mut Exchange,
    hook: &Hook,
    name: &'static str,
    notes: &mut Vec<Note>,
) -> Option<Answer> {
    let failure = match communicate(session, exchange, hook, Call::Request).await {
        Ok(verdict) => {
            note(notes, exchange, name, verdict.action);
            let body = verdict.body.unwrap_or_default();
            return verdict
                .status
                .map(|status| response::exit(exchange, status, body, None));
        }
        Err(failure) => failure,
    };
    note(notes, exchange, name, &failure);
    match failure {
        Failure::Broken(reason) => Some(response::page(exchange, 500, Some(&reason))),
        _ if hook.allow_degradation => None,
        failure => Some(response::page(exchange, 503, Some(&failure.to_string()))),
    }
}

/// Fetches the reply, asks the runner, and answers. `None`: nothing was printed, because the upstream's body is empty;
/// the gateway then proxies the request once more.
async fn response_hook(
    session: &Session,
    exchange: &mut Exchange,
    hook: &Hook,
    upstream: &Target,
    notes: &mut Vec<Note>,
) -> Option<Answer> {
    let reply = match UpstreamRequest::fetched(exchange).send(upstream).await {
        Ok(reply) => reply,
        Err(error) => return Some(bad_gateway(exchange, &error, notes)),
    };
    let (upstream_status, upstream_body) = (reply.status, reply.body.clone());
    exchange.upstream_reply = Some(reply);
    let outcome = communicate(session, exchange, hook, Call::Response).await;
    match &outcome {
        Ok(verdict) => note(notes, exchange, "post-resp", verdict.action),
        Err(failure) => note(notes, exchange, "post-resp", failure),
    }
    let (status, body) = match outcome {
        Ok(verdict) => (verdict.status, verdict.body),
        Err(Failure::Broken(reason)) => return Some(response::page(exchange, 500, Some(&reason))),
        Err(_) if hook.allow_degradation => (None, None),
        Err(_) => (Some(503), None),
    };
    let status = status.unwrap_or(upstream_status);
    match body {
        Some(body) => Some(response::printed(exchange, status, body.into())),
        None if upstream_body.is_empty() => None,
        None => Some(response::printed(exchange, status, upstream_body)),
    }
}

/// Makes a call, again after a flush of all tokens while the runner does not know the token.
async fn communicate(
    session: &Session,
    exchange: &mut Exchange,
    hook: &Hook,
    call: Call,
) -> Result<Verdict, Failure> {
    let mut attempts = 1;
    loop {
        let outcome = attempt(session, exchange, hook, call).await;
        if !matches!(outcome, Err(Failure::TokenNotFound(_))) {
            return outcome;
        }
        session.flush_tokens();
        if attempts == ATTEMPTS {
            return outcome;
        }
        attempts += 1;
    }
}

async fn attempt(
    session: &Session,
    exchange: &mut Exchange,
    hook: &Hook,
    call: Call,
) -> Result<Verdict, Failure> {
    let mut connection = session.connect().await?;
    let token = session.token(hook).await?;
    let id = session.next_id();
    exchange.call = Some(id);
    let (kind, label) = match call {
        Call::Request => (wire::HTTP_REQ_CALL, "RPC_HTTP_REQ_CALL"),
        Call::Response => (wire::HTTP_RESP_CALL, "RPC_HTTP_RESP_CALL"),
    };
    let payload = match call {
        Call::Request => exchange.request_call(id, token)?,
        Call::Response => response_call(exchange, id, token),
    };
    connection.send(kind, &payload, label).await?;
    let (got, payload) = loop {
        let (got, payload) = connection.receive(label).await?;
        if got != wire::EXTRA_INFO {
            break (got, payload);
        }
        let answer = exchange.answer(&reply::question(&payload)?)?;
        connection
            .send(wire::EXTRA_INFO, &answer, "RPC_EXTRA_INFO")
            .await?;
    };
    if got != kind {
        return Err(Failure::Call(format!(
            "failed to receive {label}: unexpected type {got}"
        )));
    }
    let verdict = match call {
        Call::Request => apply_action(exchange, reply::action(&payload)?)?,
        Call::Response => apply_change(exchange, &payload)?,
    };
    connection.keep();
    Ok(verdict)
}

/// Encodes HTTPRespCall.Req. The gateway's HTTP client loses headers with an empty value.
fn response_call(exchange: &Exchange, id: u32, token: u32) -> Vec<u8> {
    let Some(reply) = &exchange.upstream_reply else {
        return Vec::new();
    };
    let headers = reply.headers.iter().filter(|(_, value)| !value.is_empty());
    wire::response_call(id, token, reply.status, headers)
}

fn apply_action(exchange: &mut Exchange, action: Action) -> Result<Verdict, Failure> {
    match action {
        Action::None => Ok(Verdict {
            action: "no action",
            status: None,
            body: None,
        }),
        Action::Rewrite(change) => {
            rewrite::apply(exchange, change)?;
            Ok(Verdict {
                action: "rewrite",
                status: None,
                body: None,
            })
        }
        Action::Stop {
            status,
            headers,
            body,
        } => {
            response::set_or_add(&mut exchange.outgoing, headers.into_iter())?;
            let status = if status == 0 { 200 } else { status };
            Ok(Verdict {
                action: "stop",
                status: Some(status),
                body: Some(body),
            })
        }
    }
}

fn apply_change(exchange: &mut Exchange, payload: &[u8]) -> Result<Verdict, Failure> {
    let mut change = reply::response_change(payload)?;
    let action = match (
        change.status,
        change.headers.is_empty(),
        change.body.is_empty(),
    ) {
        (0, true, true) => "no change",
        _ => "changed",
    };
    response::apply_change(exchange, &mut change)?;
    let body = (!change.body.is_empty()).then_some(change.body);
    Ok(Verdict {
        action,
        status: (change.status != 0).then_some(change.status),
        body,
    })
}

fn bad_gateway(exchange: &mut Exchange, error: &anyhow::Error, notes: &mut Vec<Note>) -> Answer {
    let reason = format!("{error:#}");
    note(notes, exchange, "upstream", &reason);
    response::page(exchange, 502, Some(&reason))
}

fn note(
    notes: &mut Vec<Note>,
    exchange: &mut Exchange,
    name: &'static str,
    said: impl std::fmt::Display,
) {
    notes.push(Note {
        name,
        said: said.to_string(),
        call: exchange.call.take(),
        steps: Vec::new(),
    });
}

/// The path that routes are matched with; `None` for one that nginx refuses.
pub(super) fn routing_path(target: &str) -> Option<Vec<u8>> {
    percent::decode_path(target.split('?').next().unwrap_or_default().as_bytes())
}
