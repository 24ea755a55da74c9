//! What of a recording counts: neither the order of names, nor dates, nor framing.

use std::net::IpAddr;

use serde_json::{Value, json};

/// What an upstream saw: request line without the order of arguments, headers without order, body.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    line: String,
    args: Vec<String>,
    headers: Vec<String>,
    body: String,
}

pub(super) fn seen(line: &str, headers: &[&str], body: &str) -> Seen {
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

pub(super) fn our_echo(text: &str) -> Seen {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let lines: Vec<&str> = head.lines().collect();
    seen(lines[0], &lines[1..], body)
}

pub(super) fn their_echo(text: &str) -> Seen {
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
pub(super) fn comparable(lines: Vec<String>) -> Vec<String> {
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

pub(super) fn comparable_all(lines: Vec<String>) -> Vec<String> {
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
pub(super) fn normal(field: &str, value: &Value) -> Value {
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

pub(super) fn text_value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "bytes_hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() })
        }
    }
}

pub(super) fn address(bytes: &[u8]) -> String {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => IpAddr::from(octets).to_string(),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
    }
}

pub(super) fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// The recordings write bytes that are no UTF-8 as `\xff`.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.extend(from_hex(&part[..2]));
        bytes.extend(part[2..].bytes());
    }
    bytes
}

pub(super) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(super) fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(&latin(&rest[..at]), 16).unwrap();
        body.extend(&rest[at + 2..at + 2 + length]);
        rest = &rest[at + 2 + length + 2..];
    }
    body
}
