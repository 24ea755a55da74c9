//! A new library is tried in a process of its own before it meets the one that serves.

use e2e::message::{Code, Reply, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

/// Starts with a library whose `init_worker` does this; the others serve, from the first worker on.
#[track_caller]
fn never_loaded(init: &str, said: &[&str]) {
    let config = format!(
        "plugins:\n  probe_deadline: 500ms\n  settings:\n    misbehaving: {{init: {init}}}\n"
    );
    let runner = Setup::with(&["misbehaving", "stop"])
        .config(&config)
        .start();
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    runner.log().wait_for(&["libmisbehaving.so was not loaded"]);
    runner.log().wait_for(said);
    assert_eq!(runner.log().with("a new one takes its place"), [""; 0]);
}

#[test]
fn a_library_that_crashes_at_its_start_never_meets_the_worker() {
    never_loaded(
        "abort",
        &["ended its probe (signal: 6 (SIGABRT)) in init_worker"],
    );
    never_loaded(
        "segfault",
        &["ended its probe (signal: 11 (SIGSEGV)) in init_worker"],
    );
}

#[test]
fn a_library_that_ends_the_process_at_its_start_never_meets_the_worker() {
    never_loaded("exit", &["ended its probe (exit status: 0) in init_worker"]);
}

#[test]
fn a_library_that_hangs_at_its_start_never_meets_the_worker() {
    never_loaded(
        "hang_in_probe",
        &["did not come back within 500ms in init_worker"],
    );
}

#[test]
fn a_library_whose_start_hangs_in_the_worker_stays_out_is_named_and_holds_up_no_other() {
    let config = "plugins:\n  load_deadline: 1s\n  settings:\n    misbehaving: {init: hang}\n";
    let runner = Setup::with(&["misbehaving", "stop"]).config(config).start();
    runner.log().wait_for(&["stop 0.1.0 serves"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&STOP);
    assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
    runner.log().wait_for(&[
        "libmisbehaving.so was not loaded",
        "it has not started in the worker within 1s",
        "hint",
    ]);
    // The thread that hangs goes with its worker, and the connection is handed to the next one.
    let said = ["worker 2 serves instead of worker 1", "hang in their start"];
    runner.log().wait_for(&said);
    wait::until("there is one worker", || {
        (runner.children().len() == 1).then_some(())
    });
    assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
    let reply = runner
        .gateway()
        .get(&[("misbehaving", r#"{"mode": "mark"}"#)]);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    runner.setup().install("say");
    runner.log().wait_for(&["say 0.1.0 serves"]);
}

#[test]
fn a_good_library_is_started_for_its_probe_and_then_to_serve() {
    let runner = Runner::with(&["misbehaving"]);
    let conf = [("misbehaving", r#"{"mode": "mark"}"#)];
    assert_eq!(runner.gateway().get(&conf).text(), "mark-of-the-file");
    runner.lay_mark("the-next-of-them");
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 2"]);
    assert_eq!(runner.gateway().get(&conf).text(), "the-next-of-them");
}
