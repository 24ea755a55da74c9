//! Everything that a plugin must not do, and what the client sees, what the log says, and how the next call goes.

use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Instant;

use e2e::gateway::Gateway;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup, is_alive, signal_process};
use e2e::wait;
use rustix::process::Signal;
use xtask::elsewhere::Copy;

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];

/// The next calls are right: of another plugin, and of this one.
#[track_caller]
fn goes_on(gateway: &mut Gateway) {
    assert_eq!(gateway.get(&STOP).text(), "ok");
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
}

/// A mode that ends the worker costs its own call.
#[track_caller]
fn ends_the_worker(mode: &str, signal: &str) {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let conf = format!(r#"{{"mode": "{mode}"}}"#);
    let token = gateway.prepare(&[("misbehaving", &conf)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert!(gateway.is_closed());
    goes_on(&mut runner.gateway());
    runner.log().wait_for(&["ERROR", "worker", signal]);
    let named = ["plugin misbehaving", "crashed", "phase=access", mode];
    runner.log().wait_for(&named);
}

#[test]
fn a_page_that_is_not_there_ends_the_worker_and_costs_one_call() {
    ends_the_worker("sigbus", "SIGBUS");
}

#[test]
fn an_instruction_that_does_not_exist_ends_the_worker_and_costs_one_call() {
    ends_the_worker("sigill", "SIGILL");
}

#[test]
fn bytes_that_are_no_text_go_through_as_they_are() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let changed = gateway.get(&[("misbehaving", r#"{"mode": "bad_utf8"}"#)]);
    let changed = changed.rewrite();
    assert_eq!(changed.path, b"/\xff\xfe");
    let header = (b"x-bad".to_vec(), Some(b"a\xff\xfeb".to_vec()));
    assert_eq!(changed.headers, [header]);
    goes_on(&mut gateway);
    assert_eq!(runner.log().with("ERROR"), [""; 0]);
}

#[test]
fn a_thread_that_a_plugin_leaves_behind_harms_no_later_call_and_no_later_build() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let leaving = [("misbehaving", r#"{"mode": "thread_left_behind"}"#)];
    for _ in 0..3 {
        assert_eq!(gateway.get(&leaving), Reply::Nothing);
    }
    goes_on(&mut gateway);
    runner.lay_mark("the-next-of-them");
    wait::until("the next build serves", || {
        (gateway.get(&MARK).text() == "the-next-of-them").then_some(())
    });
    assert_eq!(gateway.get(&leaving), Reply::Nothing);
    assert_eq!(runner.log().with("ended; a new one"), [""; 0]);
}

#[test]
fn a_child_that_a_plugin_forks_keeps_no_pipe_of_the_gateway_open() {
    // The gateway reads our output to its end before it starts us again.
    let setup = Setup::with(&["misbehaving", "stop"]);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = setup.command();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    drop(command);
    let output = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let socket = setup.socket();
    wait::until("it accepts", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let mut gateway = Gateway::connect(&socket);
    let forking = [("misbehaving", r#"{"mode": "fork_child_that_keeps_stdout"}"#)];
    assert_eq!(gateway.get(&forking), Reply::Nothing);
    goes_on(&mut gateway);
    signal_process(child.id(), Signal::TERM);
    wait::until("the runner has ended", || child.try_wait().unwrap());
    wait::until("its output has ended", || {
        output.is_finished().then_some(())
    });
    let said = output.join().unwrap().unwrap();
    assert!(said.contains("stopped"), "{said}");
}

#[test]
fn a_call_that_hangs_is_answered_at_its_deadline_and_named() {
    let config = "calls:\n  deadline: 300ms\n";
    let runner = Setup::with(&["misbehaving", "stop"]).config(config).start();
    let mut gateway = runner.gateway();
    goes_on(&mut gateway);
    let hanging = [("misbehaving", r#"{"mode": "hang"}"#)];
    let started = Instant::now();
    assert_eq!(gateway.get(&hanging), UNAVAILABLE);
    let took = started.elapsed().as_millis();
    assert!((280..3000).contains(&took), "{took} ms");
    runner
        .log()
        .wait_for(&["ERROR", "misbehaving", "access", "deadline"]);
    goes_on(&mut gateway);
}

#[test]
fn a_call_that_is_merely_slow_is_answered_when_it_is_done() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let slow = [("misbehaving", r#"{"mode": "sleep_ms", "ms": 200}"#)];
    let started = Instant::now();
    assert_eq!(gateway.get(&slow).text(), "awake");
    assert!(started.elapsed().as_millis() >= 200);
    goes_on(&mut gateway);
    assert_eq!(runner.log().with("ERROR"), [""; 0]);
}

/// A library that was built with a feature which breaks it.
fn broken_build(feature: &str) -> PathBuf {
    // One at a time: they share a target folder.
    static BUILDING: OnceLock<std::sync::Mutex<()>> = OnceLock::new();
    let _building = BUILDING.get_or_init(Default::default).lock();
    let name = format!("misbehaving-{}", feature.replace('_', "-"));
    let copy = Copy::new("misbehaving", &name).unwrap();
    copy.build(&["--features", feature]).unwrap()
}

/// Laid over the serving one it changes nothing, and the log says why; laid as a new file it serves nobody.
#[track_caller]
fn never_serves(feature: &str, said: &[&str]) {
    let bytes = std::fs::read(broken_build(feature)).unwrap();
    let config = "plugins:\n  probe_deadline: 700ms\n";
    let runner = Setup::with(&["misbehaving", "stop"]).config(config).start();
    let mut gateway = runner.gateway();
    goes_on(&mut gateway);
    let worker = runner.worker();
    runner.setup().lay("libmisbehaving.so", &bytes);
    let line = runner
        .log()
        .wait_for(&[&["WARN", "libmisbehaving.so", "hint"], said].concat());
    assert!(line.contains("generation"), "what serves is named: {line}");
    goes_on(&mut gateway);
    runner.lay_mark("the-next-of-them");
    wait::until("a good build serves", || {
        (gateway.get(&MARK).text() == "the-next-of-them").then_some(())
    });
    assert_eq!(runner.worker(), worker, "the worker never met it");
}

#[test]
fn a_build_that_crashes_while_it_is_opened_never_meets_the_worker() {
    never_serves(
        "crash_in_constructor",
        &["ended its probe", "SIGSEGV", "in a constructor"],
    );
}

#[test]
fn a_build_whose_start_hangs_never_meets_the_worker() {
    never_serves("slow_init", &["did not come back", "in init_worker"]);
}

#[test]
fn a_build_for_another_abi_never_meets_the_worker() {
    never_serves("wrong_abi", &["plugin ABI 9.0"]);
}

#[test]
fn a_killed_child_of_a_plugin_is_nobodys_loss() {
    // A child that was forked in the worker ends with it: its process group does.
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    let forking = [("misbehaving", r#"{"mode": "fork_child_that_keeps_stdout"}"#)];
    assert_eq!(gateway.get(&forking), Reply::Nothing);
    let worker = runner.worker();
    let children = std::fs::read_dir(format!("/proc/{worker}/task")).unwrap();
    let children = children
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: String = children.collect();
    let child: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    signal_process(worker, Signal::KILL);
    wait::until("the child has gone with the worker", || {
        (!is_alive(child)).then_some(())
    });
    goes_on(&mut runner.gateway());
}
