//! The recorded scenarios of `tests/fixtures/captures`: frames between a real gateway and other runners.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::gateway::Frame;
use crate::message::{EXTRA_INFO, HTTP_REQ_CALL, PREPARE_CONF, Question, read_token};

/// One scenario, as what its gateway did.
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    /// In the recorded order.
    pub steps: Vec<Step>,
}

/// What the gateway did, with what belongs to it.
pub enum Step {
    /// PREPARE_CONF on this connection.
    Prepare {
        /// The number of the connection.
        connection: u64,
        /// The recorded payload.
        payload: Vec<u8>,
        /// The recorded token.
        token: Option<u32>,
    },
    /// A call on this connection.
    Call {
        /// The number of the connection.
        connection: u64,
        /// The recorded frame.
        frame: Frame,
        /// What the gateway answered to EXTRA_INFO in it: payloads.
        answers: HashMap<Question, Vec<u8>>,
        /// The recorded reply; a gateway takes the first frame for it.
        reply: Option<Frame>,
    },
}

#[derive(Deserialize)]
struct Line {
    dir: String,
    #[serde(rename = "type")]
    kind: u8,
    hex: String,
    conn: u64,
}

/// The folder of the recordings.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/captures")
}

/// All scenarios, by name.
pub fn scenarios() -> Vec<Scenario> {
    let files = fs::read_dir(folder()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    let mut scenarios: Vec<_> = files.map(|file| read(&file)).collect();
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    scenarios
}

fn read(file: &Path) -> Scenario {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Line> = lines.collect();
    let steps = (0..lines.len())
        .filter_map(|at| step(&lines[at..]))
        .collect();
    let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
    Scenario { name, steps }
}

/// The step that starts with the first line, if one does.
fn step(lines: &[Line]) -> Option<Step> {
    let (first, rest) = lines.split_first()?;
    if first.dir != "gateway->runner" || first.kind == EXTRA_INFO {
        return None;
    }
    let connection = first.conn;
    let same = rest.iter().filter(|line| line.conn == connection);
    let is_next = |line: &&Line| line.dir == "gateway->runner" && line.kind != EXTRA_INFO;
    let conversation: Vec<_> = same.take_while(|line| !is_next(line)).collect();
    let is_reply = |line: &&&Line| line.dir != "gateway->runner" && line.kind != EXTRA_INFO;
    let reply = conversation
        .iter()
        .find(is_reply)
        .map(|line| frame_of(line));
    if first.kind == PREPARE_CONF {
        let reply = reply.filter(|reply| reply.kind == PREPARE_CONF);
        return Some(Step::Prepare {
            connection,
            payload: bytes(&first.hex),
            token: reply.and_then(|reply| read_token(&reply.payload)),
        });
    }
    assert!(first.kind >= HTTP_REQ_CALL);
    Some(Step::Call {
        connection,
        frame: frame_of(first),
        answers: answers(&conversation),
        reply,
    })
}

/// Every question is followed by its answer: a recorded runner asked one at a time.
fn answers(conversation: &[&Line]) -> HashMap<Question, Vec<u8>> {
    let mut answers = HashMap::new();
    let extra: Vec<_> = conversation
        .iter()
        .filter(|line| line.kind == EXTRA_INFO)
        .collect();
    for pair in extra.windows(2) {
        if pair[0].dir != "gateway->runner" && pair[1].dir == "gateway->runner" {
            let question = Question::read(&bytes(&pair[0].hex));
            // The first answer: the gateway gives a response's body once.
            if let Some(question) = question {
                answers
                    .entry(question)
                    .or_insert_with(|| bytes(&pair[1].hex));
            }
        }
    }
    answers
}

fn frame_of(line: &Line) -> Frame {
    Frame {
        kind: line.kind,
        payload: bytes(&line.hex),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}
