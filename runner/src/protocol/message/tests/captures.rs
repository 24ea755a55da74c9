//! Every frame that a real gateway sent reads as its recording says, and as the generated code reads it.
//!
//! `decoded` in the recordings was made by a third reader (see the README beside them). It knows what the generated
//! code cannot read: text that is not UTF-8.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use flatbuffers::{Follow, Verifiable, VerifierOptions, root_with_opts};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::protocol::frame::kind;
use crate::protocol::generated::a6::{
    Method, extra_info, httpreq_call, httpresp_call, prepare_conf,
};

#[derive(Deserialize)]
struct Line {
    dir: String,
    #[serde(rename = "type")]
    kind: u8,
    hex: String,
    decoded: Value,
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/captures");
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "jsonl"))
        .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

/// All payloads the gateway sent, with the file they are from.
fn received() -> Vec<(PathBuf, Line, Vec<u8>)> {
    let mut found = Vec::new();
    for path in files() {
        for line in fs::read_to_string(&path).unwrap().lines() {
            let line: Line = serde_json::from_str(line).unwrap();
            if line.dir == "gateway->runner" {
                let payload = unhex(&line.hex);
                found.push((path.clone(), line, payload));
            }
        }
    }
    found
}

/// Compares bytes with their recorded form: text, hex digits where it is not UTF-8, a hash where it is long.
fn same(bytes: &[u8], recorded: &Value) -> bool {
    match recorded {
        Value::String(text) => bytes == text.as_bytes(),
        _ => match (&recorded["bytes_hex"], &recorded["sha256"]) {
            (Value::String(hex), _) => bytes == unhex(hex),
            (_, Value::String(hash)) => Sha256::digest(bytes)[..] == unhex(hash),
            _ => false,
        },
    }
}

fn same_entries(entries: Entries<'_>, recorded: &Value) -> bool {
    let Some(recorded) = recorded.as_array() else {
        return recorded.is_null() && entries.is_empty();
    };
    let same_entry = |(entry, recorded): (Entry<'_>, &Value)| {
        same(entry.name, &recorded[0])
            && match entry.value {
                None => recorded[1].is_null(),
                Some(value) => same(value, &recorded[1]),
            }
    };
    entries.len() == recorded.len() && entries.iter().zip(recorded).all(same_entry)
}

fn address(bytes: &[u8]) -> String {
    let (four, sixteen) = (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes));
    let address = four.map(IpAddr::from).or(sixteen.map(IpAddr::from));
    address.unwrap().to_string()
}

fn as_recorded(kind: u8, payload: &[u8], decoded: &Value) -> bool {
    match kind {
        kind::PREPARE_CONF => {
            let conf = PrepareConf::parse(payload).unwrap();
            same(conf.key, &decoded["key"]) && same_entries(conf.conf, &decoded["conf"])
        }
        kind::HTTP_REQ_CALL => {
            let call = RequestCall::parse(payload).unwrap();
            decoded["id"] == call.id
                && decoded["conf_token"] == call.conf_token
                && decoded["src_ip"] == address(call.src_ip)
                && decoded["method"] == Method(call.method).variant_name().unwrap()
                && same(call.path, &decoded["path"])
                && same_entries(call.args, &decoded["args"])
                && same_entries(call.headers, &decoded["headers"])
        }
        kind::EXTRA_INFO => match ExtraInfo::parse(payload).unwrap().result {
            None => decoded["result"].is_null(),
            Some(result) => same(result, &decoded["result"]),
        },
        kind::HTTP_RESP_CALL => {
            let call = ResponseCall::parse(payload).unwrap();
            decoded["id"] == call.id
                && decoded["status"] == call.status
                && decoded["conf_token"] == call.conf_token
                && same_entries(call.headers, &decoded["headers"])
        }
        _ => false,
    }
}

/// Verified with one rule less: the gateway puts no NUL behind empty text.
fn generated<'f, T>(payload: &'f [u8]) -> Option<T::Inner>
where
    T: Follow<'f> + Verifiable + 'f,
{
    let options = VerifierOptions {
        ignore_missing_null_terminator: true,
        ..Default::default()
    };
    root_with_opts::<T>(&options, payload).ok()
}

/// `None` when the generated code refuses the payload.
fn as_generated(kind: u8, payload: &[u8]) -> Option<bool> {
    Some(match kind {
        kind::PREPARE_CONF => {
            let theirs = generated::<prepare_conf::Req<'_>>(payload)?;
            let ours = PrepareConf::parse(payload).unwrap();
            ours.key == theirs.key().unwrap().as_bytes() && read(ours.conf) == oracle(theirs.conf())
        }
        kind::HTTP_REQ_CALL => {
            let theirs = generated::<httpreq_call::Req<'_>>(payload)?;
            let ours = RequestCall::parse(payload).unwrap();
            (ours.id, ours.conf_token) == (theirs.id(), theirs.conf_token())
                && ours.src_ip == theirs.src_ip().unwrap().bytes()
                && ours.method == theirs.method().0
                && ours.path == theirs.path().unwrap().as_bytes()
                && read(ours.args) == oracle(theirs.args())
                && read(ours.headers) == oracle(theirs.headers())
        }
        kind::EXTRA_INFO => {
            let theirs = generated::<extra_info::Resp<'_>>(payload)?;
            let ours = ExtraInfo::parse(payload).unwrap();
            ours.result == theirs.result().map(|result| result.bytes())
        }
        kind::HTTP_RESP_CALL => {
            let theirs = generated::<httpresp_call::Req<'_>>(payload)?;
            let ours = ResponseCall::parse(payload).unwrap();
            (ours.id, ours.status) == (theirs.id(), theirs.status())
                && ours.conf_token == theirs.conf_token()
                && read(ours.headers) == oracle(theirs.headers())
        }
        _ => false,
    })
}

#[test]
fn every_captured_frame_reads_as_recorded() {
    let mut kinds = [0; 5];
    for (path, line, payload) in received() {
        kinds[usize::from(line.kind)] += 1;
        let same = as_recorded(line.kind, &payload, &line.decoded);
        assert!(same, "{}: {}", path.display(), line.decoded);
    }
    assert_eq!(kinds[0], 0, "the gateway sends no ERROR");
    assert!(kinds[1..].iter().all(|&count| count > 20), "{kinds:?}");
}

#[test]
fn every_captured_frame_reads_as_with_the_generated_code_which_refuses_only_what_is_not_utf_8() {
    let mut refused = 0;
    for (path, line, payload) in received() {
        match as_generated(line.kind, &payload) {
            Some(same) => assert!(same, "{}: {}", path.display(), line.decoded),
            None => {
                refused += 1;
                let odd = line.decoded.to_string().contains("bytes_hex");
                assert!(odd, "{}: {}", path.display(), line.decoded);
            }
        }
    }
    assert!(refused > 0, "a capture has text that is not UTF-8");
}

#[test]
fn captured_frames_cut_at_any_byte_or_changed_in_any_byte_never_panic() {
    let mut once = std::collections::BTreeMap::new();
    for (_, line, payload) in received() {
        once.entry(line.kind).or_insert(payload);
    }
    assert_eq!(once.len(), 4);
    for payload in once.into_values() {
        let whole = read_all(&payload);
        assert!(whole > 0);
        for at in 0..payload.len() {
            read_all(&payload[..at]);
            for odd in [0, 1, 4, 0x7f, 0x80, 0xff] {
                let mut changed = payload.clone();
                changed[at] = odd;
                read_all(&changed);
            }
        }
    }
}
