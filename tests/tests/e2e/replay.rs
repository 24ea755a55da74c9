//! What a real gateway sent, sent again to our runner: every frame gets one reply, and it means what the recorded one
//! meant wherever the recorded runner was right.

use std::collections::HashMap;

use e2e::captures::{Scenario, Step, scenarios};
use e2e::effect::{Effect, with_all_headers};
use e2e::flat::Table;
use e2e::gateway::{Frame, Gateway};
use e2e::message::{
    Code, EXTRA_INFO, HTTP_REQ_CALL, PREPARE_CONF, Question, Reply, answer_payload,
    prepare_payload, read_id, read_token,
};
use e2e::runner::Runner;

/// Plugins of other runners, by scenario: what ours need as their conf to mean the same. All other scenarios run with
/// the recorded conf, whose plugin `do` does what the scratch runner of the recordings did.
const CONFS: &[(&str, &[(&str, &str)])] = &[
    ("py-stop", &[("do", PY_STOP)]),
    ("py-first-request-id-zero", &[("do", PY_STOP)]),
    (
        "py-several-plugins",
        &[("rewrite", PY_REWRITE), ("do", PY_STOP)],
    ),
    ("py-rewrite", &[("rewrite", PY_REWRITE)]),
    ("py-args-without-value", &[("rewrite", PY_REWRITE)]),
    ("py-repeated-headers-args", &[("rewrite", PY_REWRITE)]),
];

const PY_STOP: &str = r#"{"stop": {"status": 201, "headers": [["X-Resp-A6-Runner", "Python"]], "body": "Hello, Python Runner of APISIX"}}"#;
const PY_REWRITE: &str = r#"{"path": "/a6/python/runner", "headers": {"X-Resp-A6-Runner": "Python"}, "args": {"a6_runner": "Python"}}"#;

/// What ours says instead of what was recorded.
#[derive(Clone, Copy)]
enum Ours {
    /// The gateway answers 503.
    Error,
    /// The gateway prepares again.
    NotFound,
    /// Something better, that other tests look at.
    Better,
}

/// Scenarios whose recorded replies ours must not give, with the reason.
const DIFFERENT: &[(&str, Ours, &str)] = &[
    (
        "conf-several-plugins",
        Ours::Error,
        "names plugins that nobody offers",
    ),
    (
        "conf-token-zero",
        Ours::NotFound,
        "ours never gives token 0",
    ),
    ("error-bad-request", Ours::Error, BYTES),
    ("error-bad-request-degrade", Ours::Error, BYTES),
    ("error-garbage-payload", Ours::Error, BYTES),
    ("error-garbage-payload-2", Ours::Error, BYTES),
    ("error-token-not-found-always", Ours::Error, TOKEN),
    ("error-token-not-found-always-degrade", Ours::Error, TOKEN),
    ("error-token-not-found-once", Ours::Error, TOKEN),
    ("error-token-not-found-once-degrade", Ours::Error, TOKEN),
    ("error-unknown-code", Ours::Error, BYTES),
    ("error-unknown-code-degrade", Ours::Error, BYTES),
    ("extra-info-resp-body-in-req-call", Ours::Error, QUESTION),
    (
        "go-response-rewrite",
        Ours::Better,
        "the Go plugin loses the status of its conf",
    ),
    (
        "go-restart-token-not-found",
        Ours::Better,
        "ours was not restarted in between, and knows the token",
    ),
    ("go-unknown-plugin", Ours::Error, UNKNOWN),
    (
        "keepalive-after-30s-idle",
        Ours::NotFound,
        "its PREPARE_CONF is not in the recording",
    ),
    (
        "post-resp-body-zero-length",
        Ours::Error,
        "the gateway would send the upstream's body",
    ),
    ("post-resp-req-body-and-vars", Ours::Error, QUESTION),
    ("post-resp-stop-type", Ours::Error, BYTES),
    (
        "py-first-request-id-zero",
        Ours::Better,
        "the Python runner takes call 0 for none",
    ),
    (
        "py-repeated-headers-args",
        Ours::Better,
        "the Python runner loses repeated headers and arguments",
    ),
    ("py-unknown-plugin", Ours::Error, UNKNOWN),
    (
        "rewrite-body-empty",
        Ours::Error,
        "the gateway would ignore it",
    ),
    (
        "rewrite-header-content-length",
        Ours::Error,
        "the gateway would trust it",
    ),
    ("rewrite-header-crlf", Ours::Error, ILLEGAL),
    (
        "rewrite-header-empty-value",
        Ours::Error,
        "the gateway would delete the header",
    ),
    (
        "rewrite-header-host-delete",
        Ours::Error,
        "the upstream would answer 400",
    ),
    (
        "rewrite-path-empty",
        Ours::Error,
        "the gateway would ignore it",
    ),
    (
        "rewrite-path-no-slash",
        Ours::Error,
        "the gateway would glue it to the upstream's host name",
    ),
    (
        "rewrite-resp-headers",
        Ours::Error,
        "the gateway would drop some of them",
    ),
    (
        "rewrite-resp-headers-delete",
        Ours::Error,
        "they stand beside the upstream's: nothing is deleted",
    ),
    (
        "stop-header-content-type-length",
        Ours::Error,
        "the gateway would trust a wrong Content-Length",
    ),
    ("stop-header-crlf", Ours::Error, ILLEGAL),
    (
        "stop-header-empty-value",
        Ours::Error,
        "the gateway would not send it",
    ),
    ("stop-header-name-bad", Ours::Error, ILLEGAL),
    (
        "stop-header-without-value",
        Ours::Error,
        "the gateway would not send it",
    ),
    ("stop-status-150", Ours::Error, STATUS),
    ("stop-status-600", Ours::Error, STATUS),
    ("stop-status-65535", Ours::Error, STATUS),
    ("stop-status-99", Ours::Error, STATUS),
    ("two-replies", Ours::Error, BYTES),
];

const BYTES: &str = "wrong on purpose: a plugin cannot send bytes of its own";
const TOKEN: &str = "wrong on purpose: a plugin has no say in tokens";
const QUESTION: &str = "a plugin cannot ask for this";
const UNKNOWN: &str = "ours never lets a request pass without its plugin";
const ILLEGAL: &str = "cannot stand in HTTP";
const STATUS: &str = "no status of an answer";

#[test]
fn what_a_real_gateway_sent_is_answered_as_the_recorded_runners_meant_it() {
    let runner = Runner::with(&[
        "do",
        "fault-injection",
        "limit-req",
        "request-body-rewrite",
        "response-rewrite",
        "rewrite",
        "say",
        "stop",
    ]);
    let (mut same, mut faults) = (0, Vec::new());
    for scenario in scenarios() {
        let differences: Vec<_> = differences(&runner, &scenario).collect();
        let known = DIFFERENT.iter().find(|(name, ..)| *name == scenario.name);
        match known {
            None => faults.extend(differences.iter().map(|(.., text)| text.clone())),
            Some((name, ..)) if differences.is_empty() => {
                faults.push(format!("{name} means the same now: take it off the list"));
            }
            Some((_, ours, reason)) => {
                let wrong = differences.iter().filter(|(effect, _)| !ours.is(effect));
                faults.extend(wrong.map(|(.., text)| format!("{text}\n  known as {reason}")));
            }
        }
        same += usize::from(differences.is_empty());
    }
    assert!(
        faults.is_empty(),
        "{same} mean the same:\n{}",
        faults.join("\n")
    );
    assert!(same >= 60, "only {same} scenarios mean the same");
}

impl Ours {
    fn is(self, effect: &Effect) -> bool {
        match self {
            Self::Error => *effect == Effect::Failed(Code::ServiceUnavailable),
            Self::NotFound => *effect == Effect::Failed(Code::ConfTokenNotFound),
            Self::Better => !matches!(effect, Effect::Failed(_)),
        }
    }
}

/// Our effects that are not the recorded ones, each with a text that shows both.
fn differences(runner: &Runner, scenario: &Scenario) -> impl Iterator<Item = (Effect, String)> {
    let calls = replay(runner, scenario).into_iter();
    calls.filter_map(|(call, recorded, ours)| {
        let expected = Effect::of(&call, &recorded?);
        let got = Effect::of(&call, &ours);
        let text = format!(
            "{}:\n  expected {expected:?}\n  got      {got:?}",
            scenario.name
        );
        (expected != got).then_some((got, text))
    })
}

/// Replays a scenario; returns every call with the recorded reply and ours.
fn replay(runner: &Runner, scenario: &Scenario) -> Vec<(Frame, Option<Reply>, Reply)> {
    let mut connections: HashMap<u64, Gateway> = HashMap::new();
    let mut tokens = HashMap::new();
    let mut calls = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::Prepare {
                connection,
                payload,
                token,
            } => {
                let gateway = connections
                    .entry(*connection)
                    .or_insert_with(|| runner.gateway());
                let chosen = CONFS.iter().find(|(name, _)| *name == scenario.name);
                let payload =
                    chosen.map_or(payload.clone(), |(name, conf)| prepare_payload(name, conf));
                gateway.send(PREPARE_CONF, &payload);
                let frame = gateway.receive();
                assert_eq!(frame.kind, PREPARE_CONF, "{}", scenario.name);
                tokens.insert(*token, read_token(&frame.payload).unwrap());
            }
            Step::Call {
                connection,
                frame,
                answers,
                reply,
            } => {
                let gateway = connections
                    .entry(*connection)
                    .or_insert_with(|| runner.gateway());
                let payload = with_token(frame, &tokens);
                gateway.send(frame.kind, &payload);
                let ours = converse(gateway, answers);
                assert!(
                    ours.kind == frame.kind || ours.kind == 0,
                    "{}",
                    scenario.name
                );
                if ours.kind != 0 {
                    assert_eq!(
                        read_id(&ours.payload),
                        read_id(&frame.payload),
                        "{}",
                        scenario.name
                    );
                }
                let reply = reply.as_ref().and_then(|reply| recorded(frame, reply));
                calls.push((frame.clone(), reply, ours.reply()));
            }
        }
    }
    // Nothing more came, and every connection still works.
    for gateway in connections.values_mut() {
        gateway.prepare(&[]);
    }
    calls
}

/// The recorded reply; `None` when the gateway could not read it.
fn recorded(call: &Frame, reply: &Frame) -> Option<Reply> {
    match Reply::try_read(reply.kind, &reply.payload)? {
        Reply::Response(answer) => Some(Reply::Response(with_all_headers(call, &answer))),
        other => Some(other),
    }
}

fn converse(gateway: &mut Gateway, answers: &HashMap<Question, Vec<u8>>) -> Frame {
    loop {
        let frame = gateway.receive();
        if frame.kind != EXTRA_INFO {
            return frame;
        }
        let question = Question::read(&frame.payload).expect("a readable question");
        let absent = answer_payload(None);
        gateway.send(EXTRA_INFO, answers.get(&question).unwrap_or(&absent));
    }
}

/// The recorded call with our token in the place of the recorded one.
fn with_token(call: &Frame, tokens: &HashMap<Option<u32>, u32>) -> Vec<u8> {
    let number = if call.kind == HTTP_REQ_CALL { 6 } else { 3 };
    let table = Table::root(&call.payload).unwrap();
    let mut payload = call.payload.clone();
    let ours = tokens.get(&Some(table.u32(number)));
    if let (Some(at), Some(token)) = (table.field(number), ours) {
        payload[at..at + 4].copy_from_slice(&token.to_le_bytes());
    }
    payload
}
