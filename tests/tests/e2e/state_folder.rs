//! A `state.dir` that is full, read-only, without execution, somebody else's, or gone: serving goes on.

use std::fs;
use std::process::Command;

use e2e::command::{command, said};
use e2e::message::{HTTP_REQ_CALL, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;

const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

/// It serves, swaps, and serves again after a crash.
#[track_caller]
fn serves(runner: &Runner, said: &[&str]) {
    runner.log().wait_for(said);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let crash = [("misbehaving", r#"{"mode": "abort"}"#)];
    let token = runner.gateway().prepare(&crash);
    runner.lay_mark("the-next-of-them");
    wait::until("the next build serves", || {
        (runner.gateway().get(&MARK).text() == "the-next-of-them").then_some(())
    });
    // A build that ends the worker before the supervisor knows it is loaded once more: until then the one before serves.
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    let mut gateway = runner.gateway();
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert!(gateway.is_closed());
    assert_eq!(runner.gateway().get(&MARK).text(), "the-next-of-them");
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

/// In a namespace of its own, with a small file system at `state.dir`. `None`: nobody may mount here.
fn mounted(options: &str) -> Option<Runner> {
    let may = Command::new("unshare").args(["--mount", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        e2e::skipped("nobody may mount here");
        return None;
    }
    let setup = Setup::with(&["misbehaving", "stop"]);
    let state = setup.folder().join("state");
    fs::create_dir(&state).unwrap();
    let script = format!(
        "mount -t tmpfs -o mode=0711,{options} tmpfs {} && exec \"$@\"",
        state.display()
    );
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    Some(setup.wrapped(&words).start())
}

#[test]
fn a_full_disk_takes_nothing_with_it() {
    // Room for its folders and the tokens, not for a library.
    let Some(runner) = mounted("size=256k") else {
        return;
    };
    serves(
        &runner,
        &["the copy of", "is kept in memory", "No space left"],
    );
    let said = ["last good copy", "is not kept for a later start"];
    runner.log().wait_for(&said);
}

#[test]
fn a_disk_that_is_read_only_takes_nothing_with_it() {
    if let Some(runner) = mounted("ro,size=64m") {
        serves(&runner, &["WARN", "state.dir", "Read-only file system"]);
    }
}

#[test]
fn a_disk_that_executes_nothing_takes_nothing_with_it() {
    if let Some(runner) = mounted("noexec,size=128m") {
        serves(
            &runner,
            &["copies of libraries are kept in memory", "noexec"],
        );
    }
}

#[test]
fn a_folder_of_somebody_else_is_not_used() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else could give it away
    }
    let setup = Setup::with(&["misbehaving", "stop"]);
    let state = setup.folder().join("state");
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(12345), None).unwrap();
    let runner = setup.start();
    serves(&runner, &["WARN", "it belongs to user 12345, not to us"]);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
}

#[test]
fn a_folder_that_goes_while_it_runs_takes_nothing_with_it() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    fs::remove_dir_all(runner.setup().folder().join("state")).unwrap();
    let crash = [("misbehaving", r#"{"mode": "abort"}"#)];
    let token = runner.gateway().prepare(&crash);
    let mut gateway = runner.gateway();
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert!(gateway.is_closed());
    assert_eq!(runner.gateway().get(&MARK).text(), "mark-of-the-file");
    runner.lay_mark("the-next-of-them");
    wait::until("the next build serves", || {
        (runner.gateway().get(&MARK).text() == "the-next-of-them").then_some(())
    });
    runner.log().wait_for(&["the copy of", "is kept in memory"]);
    runner.log().wait_for(&["WARN", "state/control", "is gone"]);
    let output = command(&runner, &["status", "--ready"]);
    assert!(
        said(&output).contains("no runner was found"),
        "its socket went with the folder"
    );
}
