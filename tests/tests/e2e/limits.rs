//! Limits of the system and of patience: descriptors that run out, thousands of connections, readers that do not read,
//! standard descriptors that are not there.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::gateway::Gateway;
use e2e::message::{HTTP_REQ_CALL, Request};
use e2e::runner::{Runner, Setup, is_alive};
use e2e::wait;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];

/// Starts it with these limits of open files: what counts, and how far it may be raised.
fn limited(setup: Setup, soft: u32, hard: u32) -> Runner {
    let script = format!("ulimit -Sn {soft}; ulimit -Hn {hard}; exec \"$@\"");
    setup.wrapped(&["/bin/sh", "-c", &script, "sh"]).start()
}

/// Makes room for as many descriptors in this process; whether there is.
fn make_room(wanted: u64) -> bool {
    let now = getrlimit(Resource::Nofile);
    if now.maximum.is_some_and(|most| most < wanted) {
        return false;
    }
    let current = Some(now.current.unwrap_or(wanted).max(wanted));
    let more = Rlimit { current, ..now };
    setrlimit(Resource::Nofile, more).is_ok()
}

#[test]
fn connections_beyond_the_descriptors_wait_and_swaps_still_work() {
    let runner = limited(Setup::with(&["stop", "misbehaving"]), 128, 128);
    let token = runner.gateway().prepare(&STOP);
    let mut connections: Vec<_> = (0..150).map(|_| runner.gateway()).collect();
    for connection in &mut connections {
        connection.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    }
    let mut served = connections.drain(..32).collect::<Vec<_>>();
    for connection in &mut served {
        assert_eq!(connection.receive().reply().text(), "ok");
    }
    runner.log().wait_for(&["cannot be accepted", "open files"]);
    // A library needs a descriptor or two.
    runner.lay_mark("the-next-of-them");
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation 3"]);
    assert_eq!(served[0].get(&MARK).text(), "the-next-of-them");
    // Whoever waited is served as soon as others have left; none was closed.
    drop(served);
    for mut connection in connections {
        assert_eq!(connection.receive().reply().text(), "ok");
    }
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let runner = limited(Setup::with(&["stop"]), 64, 1024);
    let token = runner.gateway().prepare(&STOP);
    let mut connections: Vec<_> = (0..300).map(|_| runner.gateway()).collect();
    for connection in &mut connections {
        assert_eq!(connection.request(token, &Request::get("/")).text(), "ok");
    }
}

#[test]
fn five_thousand_connections_are_held_and_answered() {
    if !make_room(6_000) {
        return e2e::skipped("the limit of open files is too low for 5,000 connections");
    }
    let runner = limited(Setup::with(&["stop"]), 1024, 6000);
    let token = runner.gateway().prepare(&STOP);
    let mut connections: Vec<_> = (0..5_000).map(|_| runner.gateway()).collect();
    for connection in &mut connections {
        connection.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    }
    for connection in &mut connections {
        assert_eq!(connection.receive().reply().text(), "ok");
    }
    // Idle ones cost the others nothing.
    let started = Instant::now();
    for _ in 0..100 {
        let reply = connections[17].request(token, &Request::get("/"));
        assert_eq!(reply.text(), "ok");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_runner_without_standard_descriptors_serves_and_ends() {
    let setup = Setup::with(&["stop", "misbehaving"]);
    let inner = setup.command();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    let environment = inner.get_envs();
    let environment = environment.filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(environment);
    let mut child = command.current_dir(setup.folder()).spawn().unwrap();
    let socket = setup.socket();
    wait::until("it accepts", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let mut gateway = Gateway::connect(&socket);
    assert_eq!(gateway.get(&STOP).text(), "ok");
    let printing = [("misbehaving", r#"{"mode": "print"}"#)];
    gateway.get(&printing);
    let crashing = gateway.prepare(&[("misbehaving", r#"{"mode": "segfault"}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(crashing));
    assert!(gateway.is_closed());
    assert_eq!(Gateway::connect(&socket).get(&STOP).text(), "ok");
    e2e::runner::signal_process(child.id(), Signal::TERM);
    wait::until("it has ended", || child.try_wait().unwrap());
    assert!(!is_alive(child.id()));
}
