//! Replays recordings of APISIX 3.18 (tests/fixtures/gateway): a runner that gives the recorded replies must get the
//! recorded calls, and the client and the upstream must see what they saw then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::inspect::Inspector;
use super::journal::Journal;
use super::reply::{self, Question, Table};
use super::routes::Routes;
use super::server::Gateway;
use super::session::Session;
use super::wire;

const DEADLINE: Duration = Duration::from_secs(20);
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

fn recordings() -> Vec<Value> {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/gateway/replay.jsonl"
    );
    let text = std::fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_scenario_goes_as_it_went_with_apisix() {
    let recordings = recordings();
    let upstream = start_upstream(&recordings).await;
    assert!(recordings.len() > 100);
    let mut wrong = Vec::new();
    for recording in &recordings {
        let name = recording["name"].as_str().unwrap();
        let replayed = tokio::time::timeout(DEADLINE, replay(recording, &upstream)).await;
        let differences = replayed.unwrap_or_else(|_| vec!["it hangs".to_owned()]);
        wrong.extend(
            differences
                .into_iter()
                .map(|difference| format!("{name}: {difference}")),
        );
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Runs one scenario and tells what differs.
async fn replay(recording: &Value, upstream: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("runner.sock");
    let script = Arc::new(Mutex::new(Script::new(recording)));
    tokio::spawn(act(UnixListener::bind(&socket).unwrap(), script.clone()));
    let file = folder.path().join("apisix.yaml");
    std::fs::write(&file, routes_file(recording, upstream)).unwrap();
    let gateway = Gateway::new(
        Session::new(socket),
        Routes::read(&file).unwrap(),
        file,
        None,
        Inspector::new(Arc::new(Journal::new(false)), None, None).unwrap(),
    );
    let gateway = Arc::new(gateway);
    for exchange in recording["http"].as_array().unwrap() {
        let client = exchange["client"].as_str().unwrap();
        let listener = TcpListener::bind((client, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(gateway.clone().serve(listener));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(&unescape(exchange["request"].as_str().unwrap()))
            .await
            .unwrap();
        let mut response = Vec::new();
        // A dropped client may see a reset; what came until then counts.
        let _ = stream.read_to_end(&mut response).await;
        serving.abort();
        script.lock().unwrap().compare_response(exchange, &response);
    }
    let mut script = script.lock().unwrap();
    if script.next != script.frames.len() {
        let missing = format!(
            "{} of {} frames were exchanged",
            script.next,
            script.frames.len()
        );
        script.differences.push(missing);
    }
    std::mem::take(&mut script.differences)
}

fn routes_file(recording: &Value, upstream: &str) -> String {
    let name = recording["name"].as_str().unwrap();
    let mut route =
        json!({ "id": name, "uri": format!("/s/{name}*"), "plugins": recording["plugins"] });
    let mut file = json!({});
    for (key, value) in recording["route"].as_object().into_iter().flatten() {
        route[key] = value.clone();
        let conf = &recording["frames"][0]["sent"]["conf"][0];
        let plugins =
            json!({ "ext-plugin-pre-req": { "conf": [{ "name": conf[0], "value": conf[1] }] } });
        match key.as_str() {
            "service_id" => file["services"] = json!([{ "id": value }]),
            _ => file["plugin_configs"] = json!([{ "id": value, "plugins": plugins }]),
        }
    }
    if recording["plugins"]["proxy-rewrite"].is_object() {
        route["upstream"] = json!({ "type": "roundrobin", "nodes": { upstream: 1 } });
    }
    file["routes"] = json!([route]);
    format!("{file}\n#END\n")
}

/// The runner's part: the recorded frames, in order over all connections.
struct Script {
    frames: Vec<Value>,
    closes: Vec<Value>,
    /// The scenario's upstream gave a fixed answer, not an echo.
    fixed_upstream: bool,
    next: usize,
    asked: Option<Question>,
    differences: Vec<String>,
}

/// What to do after a frame of the gateway.
struct Turn {
    bytes: Vec<u8>,
    close: bool,
}

impl Script {
    fn new(recording: &Value) -> Self {
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

    fn compare_response(&mut self, exchange: &Value, response: &[u8]) {
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

fn is_echo(frame: &Value) -> bool {
    frame["sent"]["result"]
        .as_str()
        .is_some_and(|result| result.contains("\nBODY-LEN "))
}

/// What an upstream saw: request line without the order of arguments, headers without order, body.
#[derive(Debug, PartialEq)]
struct Seen {
    line: String,
    args: Vec<String>,
    headers: Vec<String>,
    body: String,
}

fn seen(line: &str, headers: &[&str], body: &str) -> Seen {
    let (path, args) = line.split_once('?').unwrap_or((line, ""));
    let mut args: Vec<String> = args.split('&').map(str::to_owned).collect();
    args.sort_by_key(|arg| arg.split('=').next().unwrap().to_owned());
    let headers = headers.iter().map(|line| (*line).to_owned()).collect();
    let mut headers = comparable_all(headers);
    headers.retain(|line| !line.starts_with("x-forwarded-port:"));
    Seen {
        line: path.to_owned(),
        args,
        headers,
        body: body.to_owned(),
    }
}

fn our_echo(text: &str) -> Seen {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let lines: Vec<&str> = head.lines().collect();
    seen(lines[0], &lines[1..], body)
}

fn their_echo(text: &str) -> Seen {
    let (head, rest) = text.split_once("\r\n\r\n").unwrap();
    let lines: Vec<&str> = head.split("\r\n").collect();
    let body = rest
        .split_once("\nBODY ")
        .map_or("", |(_, body)| body.strip_suffix('\n').unwrap());
    seen(
        lines[0].strip_suffix(" HTTP/1.1").unwrap(),
        &lines[1..],
        body,
    )
}

/// Headers without order, case of names, framing, date and server.
fn comparable(lines: Vec<String>) -> Vec<String> {
    let mut lines = comparable_all(lines);
    let left_out = [
        "date:",
        "server:",
        "connection:",
        "transfer-encoding:",
        "content-length:",
    ];
    lines.retain(|line| !left_out.iter().any(|name| line.starts_with(name)));
    lines
}

fn comparable_all(lines: Vec<String>) -> Vec<String> {
    let lower = |line: String| match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line,
    };
    let mut lines: Vec<String> = lines
        .into_iter()
        .map(lower)
        .map(|line| line.replace("; charset=utf-8", ""))
        .collect();
    lines.sort();
    lines
}

/// Entries without the order of names, keys without version.
fn normal(field: &str, value: &Value) -> Value {
    match field {
        "args" | "headers" => {
            let mut entries = value.as_array().cloned().unwrap_or_default();
            entries
                .retain(|entry| entry[0] != json!("x-forwarded-port") && entry[0] != json!("Date"));
            entries.sort_by_key(|entry| entry[0].to_string());
            Value::Array(entries)
        }
        "key" => {
            let digits = |part: &str| {
                part.chars()
                    .all(|char| char.is_ascii_digit() || char == '&')
            };
            let version = |part: &str| {
                if digits(part) {
                    part.chars().filter(|char| *char == '&').collect()
                } else {
                    part.to_owned()
                }
            };
            json!(
                value
                    .as_str()
                    .unwrap()
                    .split('#')
                    .map(version)
                    .collect::<Vec<_>>()
            )
        }
        _ => value.clone(),
    }
}

fn text_value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "bytes_hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

fn address(bytes: &[u8]) -> String {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => IpAddr::from(octets).to_string(),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
    }
}

fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The recordings write bytes that are no UTF-8 as `\xff`.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.extend(from_hex(&part[..2]));
        bytes.extend(part[2..].bytes());
    }
    bytes
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(&latin(&rest[..at]), 16).unwrap();
        body.extend(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 2 + length + 2..];
    }
    body
}

async fn act(listener: UnixListener, script: Arc<Mutex<Script>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(act_on(stream, script.clone()));
    }
}

async fn act_on(mut stream: UnixStream, script: Arc<Mutex<Script>>) {
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

/// Starts an upstream with the recorded fixed answers, chosen by the scenario's name in the path.
async fn start_upstream(recordings: &[Value]) -> String {
    let answers = Arc::new(upstream_answers(recordings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answers = answers.clone();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let request = latin(&request);
                let path = request.split([' ', '?']).nth(1).unwrap();
                let (head, body) = &answers[path.strip_prefix("/s/").unwrap()];
                let body: &[u8] = if request.starts_with("HEAD ") {
                    b""
                } else {
                    body
                };
                let _ = stream.write_all(&[head, body].concat()).await;
            });
        }
    });
    address
}

/// Head and body by the scenario's name.
fn upstream_answers(recordings: &[Value]) -> BTreeMap<String, (Vec<u8>, Vec<u8>)> {
    let uri_of = |recording: &Value| {
        recording["plugins"]["proxy-rewrite"]["uri"]
            .as_str()
            .map(str::to_owned)
    };
    let mut heads: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for recording in recordings {
        let frames = recording["frames"].as_array().unwrap().iter();
        let call = frames
            .map(|frame| &frame["sent"])
            .find(|sent| sent["status"].is_u64());
        if let (Some(uri), Some(call)) = (uri_of(recording), call) {
            let empty = if uri == "/emptyvalue" {
                "X-Empty: \r\n"
            } else {
                ""
            };
            heads.insert(uri, upstream_head(call, empty));
        }
    }
    let answer = |recording: &Value| {
        let uri = uri_of(recording)?;
        let body = match uri.as_str() {
            "/cookies" => "hello from upstream\n",
            "/small" => "small body!\n",
            "/chunked" => "chunk-1\nchunk-2\nchunk-3\nchunk-4\nchunk-5\n",
            "/status/500" => "status 500\n",
            "/emptyvalue" => "x",
            _ => "",
        };
        let head = heads.get(&uri)?.clone();
        let chunked = latin(&head).contains("Transfer-Encoding: chunked");
        let body = if chunked {
            format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
        } else {
            body.to_owned()
        };
        Some((
            recording["name"].as_str()?.to_owned(),
            (head, body.into_bytes()),
        ))
    };
    recordings.iter().filter_map(answer).collect()
}

/// The upstream's head as the gateway told it to the runner, and a header line that it did not tell.
fn upstream_head(call: &Value, untold: &str) -> Vec<u8> {
    let status = call["status"].as_u64().unwrap() as u16;
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\n{untold}",
        super::page::reason_phrase(status)
    )
    .into_bytes();
    for header in call["headers"].as_array().unwrap() {
        let value = &header[1];
        let bytes = value["bytes_hex"]
            .as_str()
            .map_or_else(|| value.as_str().unwrap().as_bytes().to_vec(), from_hex);
        head.extend(
            [
                header[0].as_str().unwrap().as_bytes(),
                b": ",
                &bytes,
                b"\r\n",
            ]
            .concat(),
        );
    }
    head.extend(b"\r\n");
    head
}

#[test]
fn a_routes_file_that_is_missing_is_told_with_its_path() {
    let error = Routes::read(Path::new("/nowhere/apisix.yaml")).unwrap_err();
    assert!(
        error.to_string().starts_with("/nowhere/apisix.yaml: "),
        "{error}"
    );
}
