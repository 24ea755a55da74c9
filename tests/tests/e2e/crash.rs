//! A crash has a name: the log says whose code ended the worker, where, and on which route.

use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Setup, is_alive, signal_process};
use e2e::wait;
use rustix::process::Signal;

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

/// What mode `mode` leaves in the log, while another plugin runs on another thread.
#[track_caller]
fn named(setup: Setup, mode: &str, said: &[&str]) {
    let runner = setup.start();
    let mut other = runner.gateway();
    let sleeping = other.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 60000}"#)]);
    other.send(HTTP_REQ_CALL, &Request::get("/").payload(sleeping));
    let mut gateway = runner.gateway();
    let conf = format!(r#"{{"mode": "{mode}"}}"#);
    let token = gateway.prepare(&[("misbehaving", &conf)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert!(gateway.is_closed());
    let line = runner
        .log()
        .wait_for(&["plugin misbehaving", "and ended the worker"]);
    for part in [&["generation=", "sha256=", "libmisbehaving.so", mode], said].concat() {
        assert!(line.contains(part), "`{part}` is not in\n{line}");
    }
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

fn setup() -> Setup {
    Setup::with(&["misbehaving", "stop"])
}

#[test]
fn a_crash_in_a_call_is_named_with_its_phase_and_route() {
    let access = ["crashed", "phase=access", "route_key="];
    named(setup(), "segfault", &access);
    named(setup(), "abort", &access);
}

#[test]
fn an_overflow_of_the_stack_is_named() {
    named(setup(), "stack_overflow", &["crashed", "phase=access"]);
}

#[test]
fn memory_beyond_its_limit_is_named() {
    let limited = setup().config("worker:\n  memory_limit: 512MiB\n");
    named(limited, "allocate_all", &["crashed", "phase=access"]);
}

#[test]
fn an_exit_is_named() {
    named(setup(), "exit", &["called exit", "phase=access"]);
}

#[test]
fn a_crash_on_a_thread_of_the_plugin_is_named() {
    let runner = setup().start();
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "thread_crash"}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert!(gateway.is_closed());
    let said = ["plugin misbehaving crashed", "a thread of its own"];
    runner.log().wait_for(&said);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

#[test]
fn a_worker_that_is_killed_from_outside_blames_nobody() {
    let runner = setup().start();
    let mut other = runner.gateway();
    let modes = [r#"{"mode": "log"}"#, r#"{"mode": "sleep", "ms": 60000}"#];
    let sleeping = other.prepare(&modes.map(|mode| ("misbehaving", mode)));
    other.send(HTTP_REQ_CALL, &Request::get("/").payload(sleeping));
    runner.log().wait_for(&["said with log"]);
    signal_process(runner.worker(), Signal::KILL);
    runner
        .log()
        .wait_for(&["it ran when the worker ended", "misbehaving", "access"]);
    assert_eq!(runner.log().with("and ended the worker"), [""; 0]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

#[test]
fn a_build_that_crashes_again_and_again_gives_way_to_the_one_before_it() {
    let runner = setup().start();
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    assert_eq!(runner.gateway().get(&mark).text(), "mark-of-the-file");
    runner.lay_mark("the-next-of-them");
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    let token = runner
        .gateway()
        .prepare(&[("misbehaving", r#"{"mode": "segfault"}"#)]);
    for crashes in 0..3 {
        assert_eq!(
            runner.gateway().get(&mark).text(),
            "the-next-of-them",
            "{crashes}"
        );
        let mut gateway = runner.gateway();
        gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
        assert!(gateway.is_closed());
    }
    assert_eq!(runner.gateway().get(&mark).text(), "mark-of-the-file");
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let said = [
        "libmisbehaving.so is not loaded any more",
        "3 times within 60s",
    ];
    runner.log().wait_for(&said);
}

#[test]
fn a_conf_that_the_newest_build_refuses_stays_on_the_older_one_in_the_next_worker_too() {
    let runner = setup().start();
    let mut gateway = runner.gateway();
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    let token = gateway.prepare(&mark);
    let call = |token| runner.gateway().request(token, &Request::get("/"));
    assert_eq!(call(token).text(), "mark-of-the-file");
    runner.lay_mark("mark-refuse-0001");
    runner
        .log()
        .wait_for(&["generation 1", "goes on serving it"]);
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    let refused = gateway.prepare(&[mark[0], STOP[0]]);
    let unavailable = Reply::Error(Code::ServiceUnavailable);
    for _ in 0..2 {
        let worker = runner.worker();
        signal_process(worker, Signal::KILL);
        wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
        assert_eq!(call(token).text(), "mark-of-the-file");
        assert_eq!(call(refused), unavailable, "no build has accepted it");
        assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    }
    runner.lay_mark("mark-number-0003");
    wait::until("a build that accepts it serves", || {
        (call(token).text() == "mark-number-0003").then_some(())
    });
    assert_eq!(call(refused).text(), "mark-number-0003");
}
