//! The runner ends before the gateway kills it, and finishes calls until then.

use std::time::Instant;

use e2e::message::{HTTP_REQ_CALL, Request};
use e2e::runner::{Runner, is_alive};
use e2e::wait;
use rustix::process::Signal;

use crate::alone;

#[test]
fn sigterm_finishes_the_calls_in_flight_and_ends_within_its_time() {
    let _alone = alone();
    for signal in [Signal::TERM, Signal::INT] {
        let mut runner = Runner::with(&["misbehaving"]);
        let mut gateway = runner.gateway();
        let token = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 300}"#)]);
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        // What waits in the backlog is served too.
        let mut waiting = runner.gateway();
        waiting.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        let started = Instant::now();
        runner.signal(signal);
        assert_eq!(gateway.receive_reply().reply().text(), "awake");
        assert_eq!(waiting.receive_reply().reply().text(), "awake");
        let status = runner.wait();
        let took = started.elapsed().as_millis();
        assert!(status.success(), "{status}");
        assert!(took < 1000, "it took {took} ms");
        assert!(!runner.setup().socket().exists());
    }
}

#[test]
fn sigterm_does_not_wait_for_a_stuck_call() {
    let _alone = alone();
    let mut runner = Runner::with(&["misbehaving"]);
    let worker = runner.worker();
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 3600000}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let started = Instant::now();
    runner.signal(Signal::TERM);
    runner.wait();
    let took = started.elapsed().as_millis();
    // The gateway sends SIGKILL after 1 s.
    assert!(took < 1000, "it took {took} ms");
    wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
}
