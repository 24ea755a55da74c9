//! Calls that go as they should.

use e2e::message::{Code, HTTP_REQ_CALL, Question, Reply, Request, Response, entries, value_of};
use e2e::runner::{Runner, Setup};
use e2e::wait;

#[test]
fn a_plugin_answers_in_the_upstreams_place() {
    let runner = Runner::with(&["stop"]);
    let answer = runner.gateway().get(&[("stop", "{}")]).answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "Hello, Rust Runner of APISIX");
    assert_eq!(answer.header("x-resp-a6-runner").as_deref(), Some("Rust"));
}

#[test]
fn a_plugin_changes_the_request() {
    let runner = Runner::with(&["rewrite"]);
    let rewrite = runner.gateway().get(&[("rewrite", "{}")]).rewrite();
    assert_eq!(rewrite.path, b"/a6/rust/runner");
    assert_eq!(rewrite.headers, entries(&[("X-Resp-A6-Runner", "Rust")]));
    assert_eq!(
        value_of(&rewrite.args, "a6_runner").as_deref(),
        Some("Rust")
    );
}

#[test]
fn plugins_run_in_the_order_of_the_conf_and_later_ones_see_earlier_changes() {
    let runner = Runner::with(&["rewrite", "do", "stop"]);
    let mut gateway = runner.gateway();
    let first = r#"{"rewrite": {"headers": [["X-A", "1"]], "path": "/first"}}"#;
    let rewrite = gateway.get(&[("do", first), ("rewrite", "{}")]).rewrite();
    assert_eq!(rewrite.path, b"/a6/rust/runner");
    assert_eq!(value_of(&rewrite.headers, "x-a").as_deref(), Some("1"));
    let rewrite = gateway.get(&[("rewrite", "{}"), ("do", first)]).rewrite();
    assert_eq!(rewrite.path, b"/first");
}

#[test]
fn an_answer_ends_the_chain() {
    let runner = Runner::with(&["stop", "misbehaving"]);
    let conf = [
        ("stop", r#"{"body": "enough"}"#),
        ("misbehaving", r#"{"mode": "panic"}"#),
    ];
    assert_eq!(runner.gateway().get(&conf).text(), "enough");
}

#[test]
fn all_rewrite_phases_run_before_any_access_phase() {
    let runner = Runner::with(&["stop", "misbehaving"]);
    let mark = r#"{"mode": "mark", "phase": "rewrite"}"#;
    let conf = [("stop", "{}"), ("misbehaving", mark)];
    assert_eq!(runner.gateway().get(&conf).text(), "mark-of-the-file");
}

#[test]
fn declared_needs_are_asked_in_one_write_and_others_on_demand_once() {
    let runner = Runner::with(&["asking"]);
    let mut gateway = runner
        .gateway()
        .variable("remote_port", "1234")
        .variable("host", "demo.test");
    gateway = gateway.request_body("abc");
    let conf = [("asking", r#"{"also": "host", "twice": true}"#)];
    let text = gateway.get(&conf).text();
    assert_eq!(
        text,
        "remote_port=1234\nno_such=absent\nbody=abc\nhost=demo.test\nhost=demo.test\n"
    );
    let variable = |name: &str| Question::Variable(name.to_owned());
    let declared = [
        variable("remote_port"),
        variable("no_such"),
        Question::RequestBody,
    ];
    let mut expected = declared.to_vec();
    expected.push(variable("host"));
    expected.sort_by_key(|question| format!("{question:?}"));
    gateway
        .asked
        .sort_by_key(|question| format!("{question:?}"));
    assert_eq!(gateway.asked, expected);
}

#[test]
fn a_body_filter_gets_the_whole_body() {
    let runner = Runner::with(&["asking"]);
    let mut gateway = runner.gateway().response_body("hello");
    let token = gateway.prepare(&[("asking", "{}")]);
    let answer = gateway.response(token, &Response::new(200, &[])).answer();
    assert_eq!(answer.text(), "HELLO");
    assert_eq!(gateway.asked, [Question::ResponseBody]);
}

#[test]
fn one_route_gets_the_same_token_on_every_connection() {
    let runner = Runner::with(&["stop"]);
    let conf = [("stop", "{}")];
    let token = runner.gateway().prepare(&conf);
    assert_eq!(runner.gateway().prepare(&conf), token);
    assert_ne!(
        runner.gateway().prepare(&[("stop", r#"{"body": "x"}"#)]),
        token
    );
    assert_ne!(token, 0);
}

#[test]
fn a_conf_may_be_prepared_while_a_call_waits_on_another_connection() {
    let runner = Runner::with(&["asking", "stop"]);
    let mut caller = runner.gateway();
    let token = caller.prepare(&[("asking", "{}")]);
    caller.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    assert!(
        caller
            .receive_reply()
            .reply()
            .text()
            .starts_with("remote_port=absent")
    );
}

#[test]
fn an_unknown_token_is_said_to_be_unknown() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let reply = gateway.request(4242, &Request::get("/"));
    assert_eq!(reply, Reply::Error(Code::ConfTokenNotFound));
    assert_eq!(gateway.get(&[("stop", "{}")]).answer().status, 200);
}

#[test]
fn a_route_without_plugins_lets_everything_pass() {
    let runner = Runner::with(&["stop"]);
    assert_eq!(runner.gateway().get(&[]), Reply::Nothing);
}

#[test]
fn at_the_bound_a_new_configuration_is_refused_and_live_ones_stay() {
    let runner = Setup::with(&["stop"]).config("tokens:\n  max: 2\n").start();
    let mut gateway = runner.gateway();
    let conf = |body: &str| format!(r#"{{"body": "{body}"}}"#);
    let first = gateway.prepare(&[("stop", &conf("first"))]);
    let second = gateway.prepare(&[("stop", &conf("second"))]);
    let third = gateway.try_prepare("route#3", &[("stop", &conf("third"))]);
    assert_eq!(third, Err(Code::ServiceUnavailable));
    for (token, body) in [(first, "first"), (second, "second")] {
        assert_eq!(gateway.request(token, &Request::get("/")).text(), body);
    }
    runner.log().wait_for(&["tokens.max"]);
}

#[test]
fn a_configuration_that_nobody_uses_expires_and_makes_room() {
    // 1.2 times what the gateway says.
    let setup = Setup::with(&["stop"]).config("tokens:\n  max: 2\n");
    let runner = setup.env("APISIX_CONF_EXPIRE_TIME", "1").start();
    let mut gateway = runner.gateway();
    let used = gateway.prepare(&[("stop", r#"{"body": "used"}"#)]);
    let unused = gateway.prepare(&[("stop", r#"{"body": "unused"}"#)]);
    wait::until("there is room for a third one", || {
        assert_eq!(gateway.request(used, &Request::get("/")).text(), "used");
        gateway.try_prepare("route#3", &[("stop", "{}")]).ok()
    });
    let reply = gateway.request(unused, &Request::get("/"));
    assert_eq!(reply, Reply::Error(Code::ConfTokenNotFound));
}

#[test]
fn a_hundred_connections_are_served_at_once() {
    let runner = Runner::with(&["asking"]);
    let token = runner.gateway().prepare(&[("asking", "{}")]);
    let mut gateways: Vec<_> = (0..100).map(|_| runner.gateway()).collect();
    for gateway in &mut gateways {
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    }
    // The last one first: nobody waits for somebody else's answers.
    for gateway in gateways.iter_mut().rev() {
        assert!(
            gateway
                .receive_reply()
                .reply()
                .text()
                .starts_with("remote_port=absent")
        );
    }
}

#[test]
fn every_method_and_address_reaches_the_plugin() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("do", r#"{"rewrite": {"path": "/p"}}"#)]);
    for method in 0..15 {
        for address in [vec![127, 0, 0, 1], vec![0; 16], Vec::new()] {
            let request = Request {
                method,
                address,
                ..Request::get("/")
            };
            assert_eq!(gateway.request(token, &request).rewrite().path, b"/p");
        }
    }
}
