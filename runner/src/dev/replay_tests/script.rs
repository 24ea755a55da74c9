//! The runner's part of a recording: gives the recorded replies and holds what comes against what came then.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::comparing::*;
use crate::dev::reply::{self, Question, Table};
use crate::dev::wire;

/// Variables whose value differs from run to run, or that nginx alone has.
const VOLATILE: [&str; 8] = [
    "remote_port",
    "request_id",
    "msec",
    "time_iso8601",
    "nginx_version",
    "pid",
    "server_port",
    "request_length",
];

/// The runner's part: the recorded frames, in order over all connections.
pub(super) struct Script {
    pub(super) frames: Vec<Value>,
    closes: Vec<Value>,
    /// The scenario's upstream gave a fixed answer, not an echo.
    fixed_upstream: bool,
    pub(super) next: usize,
    asked: Option<Question>,
    pub(super) differences: Vec<String>,
}

/// What to do after a frame of the gateway.
pub(super) struct Turn {
    bytes: Vec<u8>,
    close: bool,
}

impl Script {
    pub(super) fn new(recording: &Value) -> Self {
        let list = |key: &str| recording[key].as_array().cloned().unwrap_or_default();
        let fixed_upstream = recording["plugins"]["proxy-rewrite"].is_object();
        Self {
            fixed_upstream,
            frames: list("frames"),
            closes: list("closes"),
            next: 0,
            asked: None,
            differences: Vec::new(),
        }
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Turn {
        let mut turn = Turn {
            bytes: Vec::new(),
            close: false,
        };
        match self
            .frames
            .get(self.next)
            .filter(|frame| frame["sent"].is_object())
            .cloned()
        {
            Some(expected) => self.compare_frame(kind, payload, &expected),
            None => self
                .differences
                .push(format!("unexpected frame of type {kind} at {}", self.next)),
        }
        self.next += 1;
        self.take_closes(&mut turn);
        while let Some(reply) = self
            .frames
            .get(self.next)
            .and_then(|frame| frame["reply"].as_str())
        {
            let payload = from_hex(reply);
            let kind = self.frames[self.next]["type"].as_u64().unwrap() as u8;
            if kind == wire::EXTRA_INFO {
                self.asked = reply::question(&payload).ok();
            }
            let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
            turn.bytes.push(kind);
            turn.bytes.extend(length);
            turn.bytes.extend(payload);
            self.next += 1;
            self.take_closes(&mut turn);
        }
        turn
    }

    fn take_closes(&self, turn: &mut Turn) {
        for close in self
            .closes
            .iter()
            .filter(|close| close["after"] == json!(self.next))
        {
            turn.bytes
                .extend(from_hex(close["raw"].as_str().unwrap_or_default()));
            turn.close = true;
        }
    }

    fn differ(&mut self, what: &str, got: impl std::fmt::Debug, expected: impl std::fmt::Debug) {
        self.differences
            .push(format!("{what}: got {got:?}, recorded {expected:?}"));
    }

    fn compare_frame(&mut self, kind: u8, payload: &[u8], expected: &Value) {
        if json!(kind) != expected["type"] {
            self.differ("frame type", kind, &expected["type"]);
            return;
        }
        let got = self.decode(kind, payload);
        for (field, value) in got.as_object().unwrap() {
            if kind == wire::HTTP_RESP_CALL && field == "headers" && !self.fixed_upstream {
                continue; // our echo has its own headers
            }
            let recorded = normal(field, &expected["sent"][field]);
            let value = normal(field, value);
            if value != recorded {
                self.differ(&format!("frame {} {field}", self.next), value, recorded);
            }
        }
    }

    fn decode(&self, kind: u8, payload: &[u8]) -> Value {
        let table = Table::root(payload).unwrap();
        let bytes = |slot| table.bytes(slot).unwrap().map_or(Value::Null, text_value);
        let entries = |slot| {
            let entries = table.entries(slot).unwrap().into_iter();
            let value =
                |bytes: Option<Vec<u8>>| bytes.map_or(Value::Null, |bytes| text_value(&bytes));
            entries
                .map(|entry| json!([value(entry.name), value(entry.value)]))
                .collect::<Value>()
        };
        match kind {
            wire::PREPARE_CONF if table.entries(0).unwrap().is_empty() => {
                json!({ "key": bytes(1), "conf": null })
            }
            wire::PREPARE_CONF => json!({ "key": bytes(1), "conf": entries(0) }),
            wire::HTTP_REQ_CALL => json!({
                "conf_token": table.u32(6).unwrap(),
                "src_ip": address(table.bytes(1).unwrap().unwrap()),
                "method": crate::protocol::generated::a6::Method(table.u8(2).unwrap()).variant_name(),
                "path": bytes(3), "args": entries(4), "headers": entries(5),
            }),
            wire::HTTP_RESP_CALL => json!({
                "status": table.u16(1).unwrap(), "headers": entries(2), "conf_token": table.u32(3).unwrap(),
            }),
            _ => match &self.asked {
                Some(Question::Variable(Some(name)))
                    if VOLATILE.iter().any(|volatile| volatile.as_bytes() == name) =>
                {
                    json!({})
                }
                // Our echo has its own form.
                Some(Question::ResponseBody) if self.frames.iter().any(is_echo) => json!({}),
                _ => json!({ "result": bytes(0) }),
            },
        }
    }

    pub(super) fn compare_response(&mut self, exchange: &Value, response: &[u8]) {
        let head_end = response
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or(response.len());
        let head = latin(&response[..head_end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        // nginx answers HTTP/1.0 with HTTP/1.1; only what follows the version counts.
        let after_version = |line: &str| {
            line.split_once(' ')
                .map_or("", |(_, rest)| rest)
                .trim_end()
                .to_owned()
        };
        if after_version(status) != after_version(exchange["status"].as_str().unwrap()) {
            self.differ("status", latin(response), &exchange["status"]);
            return;
        }
        let got: Vec<String> = lines.map(str::to_owned).collect();
        let chunked = got
            .iter()
            .any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let body = response.get(head_end + 4..).unwrap_or_default();
        let body = if chunked {
            dechunk(body)
        } else {
            body.to_vec()
        };
        let texts = |value: &Value| {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line.as_str().unwrap().to_owned())
                .collect()
        };
        let recorded: Vec<String> = texts(&exchange["headers"]);
        let recorded_headers =
            comparable(recorded.iter().map(|line| latin(&unescape(line))).collect());
        let got = comparable(got);
        if got != recorded_headers {
            self.differ("headers", got, recorded_headers);
        }
        self.compare_body(
            &body,
            &unescape(exchange["body"].as_str().unwrap()),
            &recorded,
        );
    }

    fn compare_body(&mut self, got: &[u8], recorded: &[u8], headers: &[String]) {
        let title = |body: &[u8]| {
            latin(body)
                .split("<title>")
                .nth(1)
                .map(|rest| rest.split('<').next().unwrap().to_owned())
        };
        if let Some(recorded) = title(recorded) {
            if title(got).as_ref() != Some(&recorded) {
                self.differ("page", latin(got), recorded);
            }
            return;
        }
        if latin(recorded).contains("\nBODY-LEN ") {
            let (got, recorded) = (our_echo(&latin(got)), their_echo(&latin(recorded)));
            if got != recorded {
                self.differ("upstream saw", got, recorded);
            }
            return;
        }
        // The recording client read on after the declared length; ours sends no more than it.
        let declared = headers
            .iter()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let recorded = &recorded[..recorded.len().min(declared.unwrap_or(usize::MAX))];
        if got != recorded {
            self.differ("body", latin(got), latin(recorded));
        }
    }
}

pub(super) fn is_echo(frame: &Value) -> bool {
    frame["sent"]["result"]
        .as_str()
        .is_some_and(|result| result.contains("\nBODY-LEN "))
}

pub(super) async fn act(listener: UnixListener, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(act_on(stream, script.clone()));
    }
}

pub(super) async fn act_on(mut stream: UnixStream, script: Arc<Mutex<Script>>) {
    let mut header = [0; 4];
    while stream.read_exact(&mut header).await.is_ok() {
        let mut payload =
            vec![0; u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let turn = script.lock().unwrap().frame(header[0], &payload);
        // The gateway may have closed already.
        let _ = stream.write_all(&turn.bytes).await;
        if turn.close {
            return;
        }
    }
}
