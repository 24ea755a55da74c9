//! Processes that end: the worker, the supervisor, the gateway; with a signal, or without.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::gateway::Gateway;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup, is_alive, signal_process};
use e2e::wait;
use rustix::process::Signal;

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

#[test]
fn a_killed_worker_is_replaced_at_once_and_tokens_stay_good() {
    let runner = Runner::with(&["stop"]);
    let token = runner.gateway().prepare(&STOP);
    for _ in 0..3 {
        let worker = runner.worker();
        signal_process(worker, Signal::KILL);
        wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
        let mut gateway = runner.gateway();
        assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
    }
    runner.log().wait_for(&["ERROR", "worker", "SIGKILL"]);
}

#[test]
fn of_two_libraries_the_one_that_served_serves_again_after_a_crash() {
    let runner = Runner::with(&["misbehaving"]);
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    let token = runner.gateway().prepare(&mark);
    let other = e2e::artifacts::marked("mark-number-0001");
    runner.setup().lay("a.so", &other);
    runner.log().wait_for(&["WARN", "a.so", "it stands by"]);
    for _ in 0..2 {
        let worker = runner.worker();
        signal_process(worker, Signal::KILL);
        wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
        let mut gateway = runner.gateway();
        let text = gateway.request(token, &Request::get("/")).text();
        assert_eq!(text, "mark-of-the-file");
    }
}

/// A mode that ends the process: the caller's connection closes, everybody else is served by the next worker.
#[track_caller]
fn crashes(mode: &str, log: &[&str]) {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut caller = runner.gateway();
    let conf = format!(r#"{{"mode": "{mode}"}}"#);
    let fatal = caller.prepare(&[("misbehaving", &conf)]);
    let token = caller.prepare(&STOP);
    caller.send(HTTP_REQ_CALL, &Request::get("/").payload(fatal));
    assert!(caller.is_closed());
    assert_eq!(
        runner.gateway().request(token, &Request::get("/")).text(),
        "ok"
    );
    runner.log().wait_for(log);
}

#[test]
fn a_plugin_that_aborts_costs_its_own_call_only() {
    crashes("abort", &["worker", "SIGABRT"]);
}

#[test]
fn a_plugin_that_reads_nowhere_costs_its_own_call_only() {
    crashes("segfault", &["worker", "SIGSEGV"]);
}

#[test]
fn a_plugin_that_exits_costs_its_own_call_only() {
    crashes("exit", &["worker", "exit"]);
}

#[test]
fn a_killed_supervisor_takes_its_worker_with_it() {
    let runner = Runner::with(&["stop"]);
    let worker = runner.worker();
    runner.signal(Signal::KILL);
    wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
}

#[test]
fn a_stuck_worker_goes_with_a_killed_supervisor_too() {
    let runner = Runner::with(&["misbehaving"]);
    let worker = runner.worker();
    let mut gateway = runner.gateway();
    let hang = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 3600000}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(hang));
    runner.signal(Signal::KILL);
    wait::until("the worker has gone", || (!is_alive(worker)).then_some(()));
}

#[test]
fn a_restarted_runner_gives_the_same_token_to_the_same_configuration() {
    let mut runner = Runner::with(&["stop"]);
    let token = runner.gateway().prepare(&STOP);
    runner.signal(Signal::TERM);
    runner.wait();
    let runner = runner.restart();
    let mut gateway = runner.gateway();
    let reply = gateway.request(token, &Request::get("/"));
    assert_eq!(reply, Reply::Error(Code::ConfTokenNotFound));
    assert_eq!(gateway.prepare(&STOP), token);
    assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
}

#[test]
fn without_a_supervisor_one_process_serves() {
    let mut runner = Setup::with(&["stop"]).argument("--no-supervisor").start();
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    assert_eq!(runner.children(), [0; 0]);
    runner.signal(Signal::TERM);
    assert!(runner.wait().success());
}

#[test]
fn a_closed_standard_output_does_not_end_it() {
    let setup = Setup::with(&["stop", "misbehaving"]);
    let mut command = setup.command();
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(reader);
    let socket = setup.socket();
    wait::until("it accepts", || UnixStream::connect(&socket).ok());
    let mut gateway = Gateway::connect(&socket);
    for _ in 0..20 {
        gateway.get(&[("misbehaving", r#"{"mode": "log"}"#)]);
    }
    assert_eq!(gateway.get(&STOP).text(), "ok");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_worker_does_not_hold_the_gateways_pipe() {
    // The gateway reads our output to its end before it starts us again.
    let mut runner = Runner::with(&["stop"]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let worker = runner.worker();
    let open = |pid: u32, number: u32| fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
    for number in [1, 2] {
        assert_ne!(open(worker, number), open(runner.pid(), 2));
    }
    runner.signal(Signal::TERM);
    runner.wait();
}

#[test]
fn as_root_the_worker_is_nobody_and_cannot_become_root_again() {
    if !rustix::process::geteuid().is_root() {
        return e2e::skipped("not root: the worker keeps our user");
    }
    let runner = Runner::with(&["stop"]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let status = fs::read_to_string(format!("/proc/{}/status", runner.worker())).unwrap();
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    let nobody = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = nobody
        .lines()
        .find(|line| line.starts_with("nobody:"))
        .unwrap();
    let uid = nobody.split(':').nth(2).unwrap();
    assert_eq!(line("Uid:"), format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(line("Groups:").trim_end(), "Groups:");
    assert_eq!(line("NoNewPrivs:"), "NoNewPrivs:\t1");
    assert_eq!(
        line("CapEff:").rsplit('\t').next(),
        Some("0000000000000000")
    );
}

#[test]
fn it_ends_with_a_parent_that_it_was_told_to_follow() {
    let setup = Setup::with(&["stop"]).argument("--exit-with-parent");
    let pid = orphan(&setup, Path::new("/bin/sh"));
    wait::until("it has ended", || (!is_alive(pid)).then_some(()));
}

#[test]
fn a_shell_that_closes_does_not_end_it() {
    let setup = Setup::with(&["stop"]);
    let pid = orphan(&setup, Path::new("/bin/sh"));
    let mut gateway = Gateway::connect(&setup.socket());
    for _ in 0..50 {
        assert_eq!(gateway.get(&STOP).text(), "ok");
    }
    assert!(is_alive(pid));
    signal_process(pid, Signal::KILL);
}

#[test]
fn it_ends_when_a_gateway_that_started_it_is_gone() {
    // A parent of this name is taken for the gateway.
    let setup = Setup::with(&["stop"]);
    let nginx = setup.folder().join("nginx");
    fs::copy("/bin/sh", &nginx).unwrap();
    let pid = orphan(&setup, &nginx);
    wait::until("it has ended", || (!is_alive(pid)).then_some(()));
}

/// Starts it from a shell that ends when the runner accepts; returns its process.
fn orphan(setup: &Setup, shell: &Path) -> u32 {
    let runner = setup.command();
    let mut shell = Command::new(shell);
    let script = r#""$@" >/dev/null 2>&1 & echo $!; read -r _"#;
    shell
        .args(["-c", script, "sh"])
        .arg(runner.get_program())
        .args(runner.get_args());
    let environment = runner
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    shell
        .env_clear()
        .envs(environment)
        .current_dir(setup.folder());
    let mut shell = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(shell.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let socket = setup.socket();
    wait::until("it accepts", || UnixStream::connect(&socket).ok());
    drop(shell.stdin.take());
    shell.wait().unwrap();
    line.trim().parse().unwrap()
}
