//! Tests only: does what its conf says, in the words of the recorded scenarios (tests/fixtures/captures). What the
//! scratch runner of the recordings could do and a plugin cannot is an error here.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

use plugin_api::serde_json::{self, Value};
use plugin_api::{
    Arg, Call, ConfContext, Error, Next, Plugin, RawConfig, Request, Response, Result, bail, plugin,
};

/// The plugin.
#[derive(Default)]
pub struct Do;

/// What to do, or a sequence of it: one for each call, the last one for ever.
pub struct Plan {
    turns: Vec<Value>,
    taken: AtomicUsize,
}

impl Plan {
    fn turn(&self) -> &Value {
        let turn = self.taken.fetch_add(1, Ordering::Relaxed);
        &self.turns[turn.min(self.turns.len() - 1)]
    }
}

#[plugin]
impl Plugin for Do {
    type Config = RawConfig;
    type Prepared = Plan;

    fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<Plan> {
        let plan: Value = serde_json::from_slice(&config.0)?;
        let turns = plan["seq"].as_array().cloned();
        Ok(Plan {
            turns: turns.unwrap_or_else(|| vec![plan]),
            taken: AtomicUsize::new(0),
        })
    }

    fn access(&self, plan: &Plan, request: &mut Request<'_>) -> Result<Next> {
        let turn = plan.turn();
        refuse(turn)?;
        for step in list(&turn["steps"]) {
            match step["extra"].as_str() {
                Some("req_body") => drop(request.body()?),
                _ => ask(request, step)?,
            }
        }
        match turn["echo"].as_str() {
            Some("request") => return Next::respond(200).body(seen(request)).into(),
            Some("body") => {
                let body = request.body()?.map(|body| body.as_bytes());
                return Next::respond(200).body(body.unwrap_or_default()).into();
            }
            _ => {}
        }
        if let Some(stop) = given(&turn["stop"]) {
            return answer(stop);
        }
        if let Some(rewrite) = given(&turn["rewrite"]) {
            change_request(request, rewrite)?;
        }
        Ok(Next::CONTINUE)
    }

    fn header_filter(&self, plan: &Plan, response: &mut Response<'_>) -> Result<Next> {
        let turn = plan.turn();
        refuse(turn)?;
        for step in list(&turn["steps"]) {
            match step["extra"].as_str() {
                Some("resp_body") => drop(response.body()?),
                _ => ask(response, step)?,
            }
        }
        if let Some(change) = given(&turn["resp"]) {
            change_response(response, change)?;
        }
        Ok(Next::CONTINUE)
    }
}

/// What a plugin sees of a request, a line for each thing, byte by byte.
fn seen(request: &Request<'_>) -> Vec<u8> {
    let mut lines = [b"path ", request.path().as_bytes()].concat();
    for (name, value) in request.args() {
        let value = match value {
            Arg::Flag => Vec::new(),
            Arg::Value(value) => [b"=", value.as_bytes()].concat(),
        };
        lines.extend([b"\narg ", name.as_bytes(), &value].concat());
    }
    for (name, value) in request.headers() {
        lines.extend([b"\nheader ", name.as_bytes(), b": ", value.as_bytes()].concat());
    }
    lines
}

/// What only the scratch runner could do: bytes that are no reply.
fn refuse(turn: &Value) -> Result<()> {
    for word in ["error", "raw", "rawbytes", "close"] {
        if turn.get(word).is_some() {
            bail!("`{word}` was asked for");
        }
    }
    Ok(())
}

fn ask(call: &Call<'_>, step: &Value) -> Result<()> {
    match (step["extra"].as_str(), step["name"].as_str()) {
        (Some("var"), name) => drop(call.variable(name.unwrap_or_default())?),
        (what, _) => bail!("a plugin cannot ask for {what:?}"),
    }
    Ok(())
}

fn answer(stop: &Value) -> Result<Next> {
    let status = u16::try_from(stop["status"].as_u64().unwrap_or(0))?;
    let mut answer = Next::respond(status);
    for (name, value) in pairs(&stop["headers"])? {
        answer = answer.header(name.unwrap_or_default(), value.unwrap_or_default());
    }
    answer
        .body(bytes(&stop["body"])?.unwrap_or_default())
        .into()
}

fn change_request(request: &mut Request<'_>, change: &Value) -> Result<()> {
    if let Some(path) = bytes(&change["path"])? {
        request.set_path(path)?;
    }
    for (name, value) in pairs(&change["headers"])? {
        let name = name.unwrap_or_default();
        match value {
            Some(value) => request.set_header(name, value)?,
            None => request.remove_header(name)?,
        }
    }
    let mut set = Vec::new();
    for (name, value) in pairs(&change["args"])? {
        let name = name.unwrap_or_default();
        match value {
            Some(value) if set.contains(&name) => request.add_arg(&name, value)?,
            Some(value) => request.set_arg(&name, value)?,
            None => request.remove_arg(&name)?,
        }
        set.push(name);
    }
    for (name, value) in pairs(&change["resp_headers"])? {
        request.add_response_header(name.unwrap_or_default(), value.unwrap_or_default())?;
    }
    if let Some(body) = bytes(&change["body"])? {
        request.set_body(body)?;
    }
    Ok(())
}

fn change_response(response: &mut Response<'_>, change: &Value) -> Result<()> {
    if let Some(status) = change["status"].as_u64() {
        response.set_status(u16::try_from(status)?)?;
    }
    let mut set = Vec::new();
    for (name, value) in pairs(&change["headers"])? {
        let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
        if set.contains(&name) {
            response.add_header(&name, value)?;
        } else {
            response.set_header(&name, value)?;
        }
        set.push(name);
    }
    if let Some(body) = bytes(&change["body"])? {
        response.set_body(body)?;
    }
    Ok(())
}

fn given(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

fn pairs(value: &Value) -> Result<Vec<Pair>> {
    let pair = |pair: &Value| Ok((bytes(&pair[0])?, bytes(&pair[1])?));
    list(value).map(pair).collect()
}

/// A text, `{"hex": "…"}`, or nothing.
fn bytes(value: &Value) -> Result<Option<Vec<u8>>> {
    let Some(hex) = value["hex"].as_str() else {
        return Ok(value.as_str().map(|text| text.as_bytes().to_vec()));
    };
    let digits = hex.as_bytes().chunks(2).map(std::str::from_utf8);
    let bytes = digits.map(|digits| Ok::<_, Error>(u8::from_str_radix(digits?, 16)?));
    bytes.collect::<Result<_>>().map(Some)
}
