//! Plugins that never come back: their calls are answered, and nobody else waits for them.

use std::time::{Duration, Instant};

use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup};

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const HANG: (&str, &str) = ("misbehaving", r#"{"mode": "hang"}"#);
const SAY: (&str, &str) = ("say", "{}");

#[test]
fn a_plugin_that_hangs_takes_no_thread_of_the_plugins_beside_it() {
    // A new build starts on threads: both plugins are there, with two threads each.
    let config = "worker:\n  threads_per_plugin: 2\ncalls:\n  deadline: 5s\n";
    for chain in [[HANG, SAY], [SAY, HANG]] {
        let runner = Setup::with(&["misbehaving", "say"]).config(config).start();
        let mut other = runner.gateway();
        let alone = other.prepare(&[SAY]);
        let expected = other.request(alone, &Request::get("/"));
        assert_ne!(expected, UNAVAILABLE);
        let mut stuck: Vec<_> = (0..3).map(|_| runner.gateway()).collect();
        for gateway in &mut stuck {
            let token = gateway.prepare(&chain);
            gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        }
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(300) {
            let before = Instant::now();
            assert_eq!(other.request(alone, &Request::get("/")), expected);
            let took = before.elapsed().as_millis();
            assert!(took < 1000, "{took} ms beside {chain:?}");
        }
        for gateway in &mut stuck {
            assert_eq!(gateway.receive_reply().reply(), UNAVAILABLE);
        }
        // Its threads are not back, and still nobody waits for them.
        assert_eq!(other.request(alone, &Request::get("/")), expected);
    }
}

#[test]
fn a_configure_that_hangs_blocks_its_own_route_only() {
    let config = "calls:\n  deadline: 500ms\n";
    let runner = Setup::with(&["misbehaving", "say"]).config(config).start();
    let mut other = runner.gateway();
    let alone = other.prepare(&[SAY]);
    let expected = other.request(alone, &Request::get("/"));
    let mut stuck = runner.gateway();
    let hanging = r#"{"mode": "slow_configure", "ms": 3600000}"#;
    let token = stuck.prepare(&[("misbehaving", hanging)]);
    stuck.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(other.request(alone, &Request::get("/")), expected);
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    assert_eq!(runner.gateway().get(&mark).text(), "mark-of-the-file");
    assert_eq!(stuck.receive_reply().reply(), UNAVAILABLE);
}

#[test]
fn two_calls_that_get_stuck_at_once_delay_no_other_route() {
    let runner = Runner::with(&["misbehaving", "say", "stop"]);
    let mut other = runner.gateway();
    let alone = other.prepare(&[("stop", "{}")]);
    let quick = other.prepare(&[("misbehaving", r#"{"mode": "none"}"#)]);
    // Both are known as quick first: they run on the event loop.
    for _ in 0..200 {
        other.request(alone, &Request::get("/"));
        other.request(quick, &Request::get("/"));
    }
    let mut stuck: Vec<_> = (0..2).map(|_| runner.gateway()).collect();
    let token = other.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 400}"#)]);
    for gateway in &mut stuck {
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    }
    let (mut calls, mut worst) = (0, 0);
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(200) {
        let before = Instant::now();
        assert_eq!(
            other.request(alone, &Request::get("/")).answer().status,
            200
        );
        worst = worst.max(before.elapsed().as_millis());
        calls += 1;
    }
    // 10 ms on a quiet machine; the tests run beside each other.
    assert!(
        calls > 10 && worst < 200,
        "{calls} calls, the slowest took {worst} ms"
    );
    for gateway in &mut stuck {
        assert_eq!(gateway.receive_reply().reply().text(), "awake");
    }
}
