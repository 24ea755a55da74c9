//! Plugins, configurations and readers that take long: nobody else waits for them.

use std::time::{Duration, Instant};

use e2e::gateway::Gateway;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;

use crate::alone;

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const HANG: (&str, &str) = ("misbehaving", r#"{"mode": "hang"}"#);
const SAY: (&str, &str) = ("say", "{}");
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];

/// The next calls are right: of another plugin, and of this one.
#[track_caller]
fn goes_on(gateway: &mut Gateway) {
    assert_eq!(gateway.get(&STOP).text(), "ok");
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
}

#[test]
fn a_stuck_plugin_delays_no_other_route() {
    let _alone = alone();
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut others = runner.gateway();
    let quick = others.prepare(&STOP);
    let mut stuck = runner.gateway();
    let slow = stuck.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 800}"#)]);
    // Both are known as quick first: they run on the event loop.
    let warm = others.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 0}"#)]);
    for _ in 0..200 {
        others.request(warm, &Request::get("/"));
        others.request(quick, &Request::get("/"));
    }
    stuck.send(HTTP_REQ_CALL, &Request::get("/").payload(slow));
    let started = Instant::now();
    let (mut calls, mut worst) = (0, 0);
    while started.elapsed().as_millis() < 400 {
        let before = Instant::now();
        assert_eq!(others.request(quick, &Request::get("/")).text(), "ok");
        worst = worst.max(before.elapsed().as_millis());
        calls += 1;
    }
    assert_eq!(stuck.receive_reply().reply().text(), "awake");
    // 10 ms on a quiet machine; the tests run beside each other.
    assert!(
        calls > 20 && worst < 200,
        "{calls} calls, the slowest took {worst} ms"
    );
}

#[test]
fn two_calls_that_get_stuck_at_once_delay_no_other_route() {
    let _alone = alone();
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

#[test]
fn a_plugin_that_hangs_takes_no_thread_of_the_plugins_beside_it() {
    let _alone = alone();
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
fn a_slow_configure_delays_the_calls_of_its_own_route_only() {
    let _alone = alone();
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    gateway.get(&[("stop", "{}")]); // waits until the libraries are loaded
    let started = Instant::now();
    let slow = [("misbehaving", r#"{"mode": "slow_configure", "ms": 700}"#)];
    let token = gateway.prepare(&slow);
    assert!(
        started.elapsed().as_millis() < 500,
        "PREPARE_CONF waited for the author's code"
    );
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    assert!(started.elapsed().as_millis() < 650, "another route waited");
    assert_eq!(gateway.receive().reply(), Reply::Nothing);
    assert!(started.elapsed().as_millis() >= 700);
}

#[test]
fn a_reader_who_does_not_read_delays_nobody_and_gets_its_whole_answer_late() {
    let _alone = alone();
    let config = "calls:\n  deadline: 400ms\n";
    let runner = Setup::with(&["stop", "misbehaving"]).config(config).start();
    let mut slow = runner.gateway();
    let token = slow.prepare(&[("misbehaving", r#"{"mode": "large_reply"}"#)]);
    slow.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let mut other = runner.gateway();
    let quick = other.prepare(&STOP);
    // Longer than a call may take: it is answered, whoever reads the answer when.
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(900) {
        let before = Instant::now();
        assert_eq!(other.request(quick, &Request::get("/")).text(), "ok");
        assert!(before.elapsed() < Duration::from_millis(250));
    }
    assert_eq!(slow.receive().reply().text().len(), 6 << 20);
    assert_eq!(slow.request(quick, &Request::get("/")).text(), "ok");
}

#[test]
fn a_plugin_that_floods_the_log_holds_up_nobody() {
    let _alone = alone();
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let mut flooding = runner.gateway();
    goes_on(&mut gateway);
    let token = flooding.prepare(&[("misbehaving", r#"{"mode": "log_flood"}"#)]);
    flooding.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let started = Instant::now();
    goes_on(&mut gateway);
    assert!(started.elapsed().as_millis() < 1000, "others waited");
    assert_eq!(flooding.receive_reply().reply(), Reply::Nothing);
    goes_on(&mut flooding);
    // All of it, or what was left out is counted.
    wait::until("the log is whole", || {
        let said = runner.log().with("said over and over").len();
        let more = !runner.log().with("log lines dropped").is_empty();
        (said == 100_000 || said > 0 && more).then_some(())
    });
}

#[test]
fn a_crash_loop_is_no_storm_of_processes_and_others_are_served_all_the_while() {
    let _alone = alone();
    let runner = Setup::with(&["misbehaving", "stop"])
        .config("plugins:\n  quarantine_crashes: 1000\n")
        .start();
    let crash = [("misbehaving", r#"{"mode": "abort"}"#)];
    let token = runner.gateway().prepare(&crash);
    let started = Instant::now();
    let mut answered = 0;
    while started.elapsed().as_millis() < 3500 {
        let mut gateway = runner.gateway();
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        assert!(gateway.is_closed());
        let asked = Instant::now();
        assert_eq!(runner.gateway().get(&STOP).text(), "ok");
        assert!(asked.elapsed().as_millis() < 2900, "the gateway waits 3 s");
        answered += 1;
    }
    let workers = runner.log().with("a new one takes its place").len();
    assert!((4..=10).contains(&workers), "{workers} workers, {answered}");
}
