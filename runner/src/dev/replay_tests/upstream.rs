//! The upstream of the recordings: gives the recorded answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::comparing::*;

/// Starts an upstream with the recorded fixed answers, chosen by the scenario's name in the path.
pub(super) async fn start_upstream(recordings: &[Value]) -> String {
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
pub(super) fn upstream_answers(recordings: &[Value]) -> BTreeMap<String, (Vec<u8>, Vec<u8>)> {
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
pub(super) fn upstream_head(call: &Value, untold: &str) -> Vec<u8> {
    let status = call["status"].as_u64().unwrap() as u16;
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\n{untold}",
        crate::dev::page::reason_phrase(status)
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
