//! Builds that have served serve again: at a start with a bad file, and when somebody decides so.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::artifacts::{self, marked};
use e2e::command::{fails, succeeds, wait_until_ready};
use e2e::message::{Code, Reply, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;
use rustix::process::Signal;

const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const OLD: &str = "mark-of-the-file";
const NEW: &str = "the-next-of-them";
const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);

/// A runner in which `NEW` has taken the place of `OLD`, and both are kept.
fn swapped() -> Runner {
    let runner = Runner::with(&["misbehaving", "stop"]);
    assert_eq!(runner.gateway().get(&MARK).text(), OLD);
    runner.lay_mark(NEW);
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    wait_until_kept(&runner, NEW);
    runner
}

#[track_caller]
fn wait_until_kept(runner: &Runner, mark: &str) {
    let sum = artifacts::sha256(&marked(mark));
    let index = runner.setup().folder().join("state/good/index");
    wait::until("its copy is kept", || {
        let index = fs::read_to_string(&index).ok()?;
        index.contains(&sum).then_some(())
    });
}

#[track_caller]
fn restarted(mut runner: Runner) -> Runner {
    runner.signal(Signal::TERM);
    runner.wait();
    runner.restart()
}

#[test]
fn a_bad_file_at_a_start_gives_way_to_what_has_served_before_it() {
    let mut runner = swapped();
    runner.signal(Signal::TERM);
    runner.wait();
    let whole = marked("mark-number-0003");
    runner
        .setup()
        .lay("libmisbehaving.so", &whole[..whole.len() / 2]);
    let runner = runner.restart();
    assert_eq!(runner.gateway().get(&MARK).text(), NEW);
    runner.log().wait_for(&[
        "WARN",
        "serves from its last good copy",
        "libmisbehaving.so",
        "truncated",
    ]);
    succeeds(&runner, &["status"], "(its last good copy)");
    succeeds(&runner, &["list"], "libmisbehaving.so (last good copy)");
    runner.lay_mark("mark-number-0003");
    wait::until("the mended file serves", || {
        (runner.gateway().get(&MARK).text() == "mark-number-0003").then_some(())
    });
}

#[test]
fn a_rollback_fails_no_call_and_lasts_until_it_is_released() {
    let runner = swapped();
    let done = AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut gateway = runner.gateway();
            let token = gateway.prepare(&MARK);
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                let text = gateway.request(token, &Request::get("/")).text();
                assert!([OLD, NEW].contains(&text.as_str()), "{text}");
                calls += 1;
            }
            calls
        });
        succeeds(&runner, &["rollback", "misbehaving"], "last good copy");
        assert_eq!(runner.gateway().get(&MARK).text(), OLD);
        done.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    assert!(calls > 0);
    fails(&runner, &["rollback", "misbehaving"], "no earlier build of");
    let runner = restarted(runner);
    assert_eq!(runner.gateway().get(&MARK).text(), OLD);
    succeeds(
        &runner,
        &["release", "misbehaving"],
        "misbehaving 0.1.0 serves",
    );
    assert_eq!(runner.gateway().get(&MARK).text(), NEW);
    fails(
        &runner,
        &["rollback", "misbehavin"],
        "did you mean `misbehaving`?",
    );
}

#[test]
fn nobody_runs_a_build_that_was_quarantined_by_hand() {
    let runner = Setup::with(&["stop"]).start();
    runner.lay_mark("mark-refuse-0001");
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 2"]);
    runner.lay_mark(NEW);
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    let call = || runner.gateway().request(token, &Request::get("/"));
    assert_eq!(call().text(), NEW);
    succeeds(&runner, &["quarantine", "misbehaving"], "serves");
    wait::until("the conf that only it accepts fails", || {
        (call() == UNAVAILABLE).then_some(())
    });
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let runner = restarted(runner);
    assert_eq!(runner.gateway().get(&MARK), UNAVAILABLE);
    wait_until_ready(&runner);
    succeeds(&runner, &["status"], "quarantined by hand");
    succeeds(&runner, &["release", "misbehaving"], "serves");
    assert_eq!(runner.gateway().get(&MARK).text(), NEW);
}

#[test]
fn a_new_library_is_tried_with_the_confs_of_bindings_too() {
    let bindings = "bindings:\n  - plugin: misbehaving\n    config: {mode: slow_configure, ms: 60000}\n    \
                    scope: {route: none}\n";
    let setup = Setup::with(&["misbehaving", "stop"]).config("plugins:\n  probe_deadline: 500ms\n");
    fs::write(setup.folder().join("bindings.yaml"), bindings).unwrap();
    let runner = setup.start();
    runner.log().wait_for(&[
        "libmisbehaving.so was not loaded",
        "did not come back within 500ms while it configured the conf of binding#",
    ]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}
