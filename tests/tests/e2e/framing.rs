//! Bytes on the socket: cut, glued, garbage, too many.

use e2e::gateway::{Gateway, frame};
use e2e::message::{
    Code, ERROR, HTTP_REQ_CALL, HTTP_RESP_CALL, PREPARE_CONF, Reply, Request, Response,
    prepare_payload, read_token,
};
use e2e::runner::{Runner, Setup};

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

#[track_caller]
fn still_works(gateway: &mut Gateway) {
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn frames_may_be_cut_at_every_byte() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    let bytes = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    for cut in 1..bytes.len() {
        gateway.write(&bytes[..cut]);
        gateway.write(&bytes[cut..]);
        assert_eq!(gateway.receive().reply().text(), "ok", "cut at {cut}");
    }
}

#[test]
fn frames_may_come_byte_by_byte() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    for byte in frame(HTTP_REQ_CALL, &Request::get("/").payload(token)) {
        gateway.write(&[byte]);
    }
    assert_eq!(gateway.receive().reply().text(), "ok");
}

#[test]
fn frames_may_be_glued_together() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let prepare = frame(PREPARE_CONF, &prepare_payload("k", &STOP));
    gateway.write(&[&call[..], &prepare, &call, &call[..7]].concat());
    assert_eq!(gateway.receive().reply().text(), "ok");
    assert!(read_token(&gateway.receive().payload).is_some());
    assert_eq!(gateway.receive().reply().text(), "ok");
    gateway.write(&call[7..]);
    assert_eq!(gateway.receive().reply().text(), "ok");
}

#[test]
fn an_unknown_type_is_answered_with_an_error_frame_and_the_connection_stays() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    for kind in [0, 3, 5, 6, 127, 255] {
        gateway.send(kind, b"whatever");
        let answer = gateway.receive();
        assert_eq!(answer.kind, ERROR, "type {kind}");
        assert_eq!(answer.reply(), Reply::Error(Code::BadRequest));
    }
    still_works(&mut gateway);
}

#[test]
fn garbage_is_answered_with_an_error_frame_and_the_connection_stays() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    let call = Request::get("/").payload(token);
    let garbage: [&[u8]; 5] = [
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        &[0xff; 64],
        &call[..call.len() / 2],
    ];
    for kind in [PREPARE_CONF, HTTP_REQ_CALL, HTTP_RESP_CALL] {
        for payload in garbage {
            gateway.send(kind, payload);
            let answer = gateway.receive();
            assert_eq!(answer.kind, ERROR, "type {kind}, {payload:?}");
        }
    }
    still_works(&mut gateway);
}

#[test]
fn a_call_with_any_one_byte_changed_gets_exactly_one_reply() {
    let runner = Runner::with(&["rewrite"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("rewrite", "{}")]);
    let payload = Request::get("/some/path")
        .arg("a", "b")
        .header("x", "y")
        .payload(token);
    for at in 0..payload.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = payload.clone();
            changed[at] ^= change;
            gateway.send(HTTP_REQ_CALL, &changed);
            let kind = gateway.receive_reply().kind;
            assert!(
                kind == ERROR || kind == HTTP_REQ_CALL,
                "byte {at}: type {kind}"
            );
        }
    }
    assert_eq!(
        gateway.request(token, &Request::get("/")).rewrite().path,
        b"/a6/rust/runner"
    );
}

#[test]
fn the_largest_body_is_answered_and_a_larger_one_becomes_an_error_that_says_so() {
    let runner = Runner::with(&["misbehaving", "do"]);
    let mut gateway = runner.gateway().request_body(&"z".repeat((1 << 24) - 100));
    let conf = r#"{"steps": [{"extra": "req_body"}], "stop": {"status": 200, "body": "got it"}}"#;
    assert_eq!(gateway.get(&[("do", conf)]).text(), "got it");
    let huge = [("misbehaving", r#"{"mode": "huge_reply"}"#)];
    assert_eq!(gateway.get(&huge), Reply::Error(Code::ServiceUnavailable));
    runner.log().wait_for(&["misbehaving", "16"]);
    assert_eq!(gateway.get(&[("do", conf)]).text(), "got it");
}

#[test]
fn a_connection_that_ends_in_the_middle_of_a_frame_harms_nobody() {
    let runner = Runner::with(&["stop"]);
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(1));
    for cut in [0, 1, 3, 4, 10] {
        let mut gateway = runner.gateway();
        gateway.write(&call[..cut]);
        gateway.stop_sending();
        assert!(gateway.is_closed(), "cut at {cut}");
    }
    still_works(&mut runner.gateway());
}

#[test]
fn what_is_wrong_with_frames_is_logged_once_for_each_cause() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    for _ in 0..200 {
        gateway.send(99, b"");
        gateway.receive();
    }
    still_works(&mut gateway);
    let line = runner.log().wait_for(&["99"]);
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    assert!(
        runner.log().with("99").len() < 5,
        "{:?}",
        runner.log().with("99")
    );
}

#[test]
fn a_response_call_is_answered_as_a_response_call() {
    let runner = Setup::with(&["do"]).start();
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("do", "{}")]);
    gateway.send(HTTP_RESP_CALL, &Response::new(200, &[]).payload(token));
    assert_eq!(gateway.receive_reply().kind, HTTP_RESP_CALL);
}
