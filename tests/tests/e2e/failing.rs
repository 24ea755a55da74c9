//! Plugins and routes that fail: the client gets an error, everybody else is served.

use std::time::Instant;

use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request, Response};
use e2e::runner::{Runner, Setup};

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

/// What mode `mode` of the misbehaving plugin leads to, on a connection that serves before and after.
#[track_caller]
fn fails(mode: &str, log: &[&str]) {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let conf = format!(r#"{{"mode": "{mode}"}}"#);
    for _ in 0..2 {
        assert_eq!(gateway.get(&[("misbehaving", &conf)]), UNAVAILABLE);
        assert_eq!(gateway.get(&STOP).text(), "ok");
    }
    let line = runner.log().wait_for(log);
    assert!(line.contains("ERROR"), "{line}");
}

#[test]
fn a_plugin_that_nobody_offers_is_an_error() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&[("no-such", "{}")]), UNAVAILABLE);
    runner
        .log()
        .wait_for(&["no-such", "route#1#ext-plugin-pre-req"]);
    assert_eq!(
        gateway.get(&[("stop", "{}"), ("no-such", "{}")]),
        UNAVAILABLE
    );
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn a_conf_that_the_plugin_refuses_is_an_error_that_names_the_place() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&[("stop", r#"{"statsu": 201}"#)]), UNAVAILABLE);
    runner
        .log()
        .wait_for(&["stop", "did you mean `status`?", "route#1#"]);
    assert_eq!(gateway.get(&[("stop", "not json")]), UNAVAILABLE);
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn an_empty_conf_stands_for_an_empty_object() {
    let runner = Runner::with(&["stop"]);
    assert_eq!(
        runner.gateway().get(&[("stop", "")]).text(),
        "Hello, Rust Runner of APISIX"
    );
}

#[test]
fn a_panic_is_an_error_and_the_next_call_works() {
    fails("panic", &["misbehaving", "panicked as it was told to"]);
}

#[test]
fn an_error_of_a_phase_is_logged_and_not_shown_to_the_client() {
    fails("error", &["misbehaving", "was told to fail", "route#1#"]);
}

#[test]
fn a_configure_that_panics_is_an_error() {
    fails(
        "panic_in_configure",
        &["misbehaving", "configured as it was told to"],
    );
}

#[test]
fn a_configure_that_fails_is_an_error() {
    fails("refuse", &["misbehaving", "was told to refuse"]);
}

#[test]
fn a_header_that_cannot_stand_in_http_is_refused_at_the_plugin() {
    fails("illegal_header", &["misbehaving", "x-bad"]);
}

#[test]
fn a_path_that_the_gateway_would_glue_to_the_host_is_refused() {
    fails("path_without_slash", &["misbehaving", "path"]);
}

#[test]
fn a_status_that_drops_the_client_is_refused() {
    fails("status_150", &["misbehaving", "150"]);
}

#[test]
fn a_plugin_that_panics_while_its_conf_is_dropped_harms_nobody() {
    let runner = Setup::with(&["misbehaving", "stop"]).start();
    let mut gateway = runner.gateway();
    let conf = [("misbehaving", r#"{"mode": "drop_panic"}"#)];
    assert_eq!(gateway.get(&conf), Reply::Nothing);
    // The next generation takes the conf over; the old one's is dropped.
    runner.lay_mark("another-mark-000");
    runner.log().wait_for(&["misbehaving", "generation 3"]);
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    e2e::wait::until("the new file serves", || {
        (gateway.get(&mark).text() == "another-mark-000").then_some(())
    });
    assert_eq!(gateway.get(&conf), Reply::Nothing);
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn a_failing_plugin_is_skipped_where_the_configuration_says_so() {
    let config = "plugins:\n  on_failure:\n    misbehaving: skip\n";
    let runner = Setup::with(&["misbehaving", "stop"]).config(config).start();
    let mut gateway = runner.gateway();
    for mode in ["panic", "error", "refuse", "status_150", "illegal_header"] {
        let conf = format!(r#"{{"mode": "{mode}"}}"#);
        let both = [("misbehaving", conf.as_str()), STOP[0]];
        assert_eq!(gateway.get(&both).text(), "ok", "{mode}");
        assert_eq!(gateway.get(&both[..1]), Reply::Nothing, "{mode}");
    }
    runner.log().wait_for(&["misbehaving", "skipped=true"]);
    assert_eq!(gateway.get(&[("no-such", "{}")]), UNAVAILABLE);
}

#[test]
fn an_error_in_a_response_call_is_an_error_too() {
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let conf = r#"{"mode": "panic", "phase": "header_filter"}"#;
    let token = gateway.prepare(&[("misbehaving", conf)]);
    assert_eq!(
        gateway.response(token, &Response::new(200, &[])),
        UNAVAILABLE
    );
    assert_eq!(gateway.request(token, &Request::get("/")), Reply::Nothing);
}

#[test]
fn every_call_is_answered_by_its_deadline() {
    let config = "calls:\n  deadline: 300ms\n";
    let runner = Setup::with(&["misbehaving", "stop"]).config(config).start();
    let mut gateway = runner.gateway();
    let stuck = r#"{"mode": "sleep", "ms": 3600000}"#;
    let token = gateway.prepare(&[("misbehaving", stuck)]);
    // Twice: on a blocking thread, and once more with one thread less.
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(gateway.request(token, &Request::get("/")), UNAVAILABLE);
        let took = started.elapsed().as_millis();
        assert!((250..3000).contains(&took), "{took} ms");
    }
    runner.log().wait_for(&["misbehaving", "deadline"]);
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn something_else_than_an_answer_ends_the_call_with_an_error() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "ask"}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(gateway.receive().kind, e2e::message::EXTRA_INFO);
    gateway.send(e2e::message::EXTRA_INFO, b"\xff\xff\xff\xff");
    assert!(matches!(gateway.receive().reply(), Reply::Error(_)));
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}
