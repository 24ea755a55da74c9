//! What an author gets to see of their own mistakes at run time: the place of a panic, a backtrace, a debugger.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e::artifacts;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup};
use xtask::cargo;

const PANIC: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "panic"}"#)];

/// `misbehaving/src/trouble.rs:25`: where the source has a text.
#[track_caller]
fn place(text: &str) -> String {
    let folder = cargo::root().join("example-plugins/misbehaving/src");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut places = files.filter_map(|file| {
        let source = fs::read_to_string(&file).unwrap();
        let line = source.lines().position(|line| line.contains(text))?;
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        Some(format!("misbehaving/src/{name}:{}", line + 1))
    });
    places.next().expect("the text is in the source")
}

#[test]
fn a_panic_is_logged_with_plugin_file_and_line() {
    let runner = Runner::with(&["misbehaving"]);
    let reply = runner.gateway().get(&PANIC);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    let place = place("panicked as it was told to");
    let line = runner
        .log()
        .wait_for(&["misbehaving", "panicked as it was told to", &place]);
    assert!(
        line.contains("phase=access") && line.contains("route#1#"),
        "{line}"
    );
    assert!(
        !line.contains("rust_begin_unwind"),
        "no backtrace unless it is asked for: {line}"
    );
}

#[test]
fn a_backtrace_goes_from_the_plugin_over_the_border_into_the_runner() {
    let runner = Setup::with(&["misbehaving"])
        .env("RUST_BACKTRACE", "1")
        .start();
    let reply = runner.gateway().get(&PANIC);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    let place = place("panicked as it was told to");
    runner.log().wait_for(&[
        "panicked as it was told to",
        "misbehaving::trouble",
        &place,
        "plugin_runner::request::run",
    ]);
}

/// As the guide has it.
const LOOK: [&str; 3] = [
    "sharedlibrary misbehaving",
    "info sharedlibrary misbehaving",
    "thread apply all backtrace",
];

/// gdb, if it is here.
fn gdb() -> Option<PathBuf> {
    let gdb = PathBuf::from("/usr/bin/gdb");
    gdb.exists().then_some(gdb)
}

/// What gdb says when it does this to a process (`-p`, PID) or to a core file (PROGRAM, CORE).
fn ask_gdb(gdb: &Path, of: [&str; 2], commands: &[&str]) -> String {
    let mut command = Command::new(gdb);
    command.args(["-nx", "-batch", "-iex", "set auto-solib-add off"]);
    command.args(of);
    for line in commands {
        command.args(["-ex", line]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_debugger_finds_the_symbols_of_a_private_copy_in_a_living_worker() {
    let Some(gdb) = gdb() else {
        return e2e::skipped("there is no gdb");
    };
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 600000}"#)]);
    // Never answered: the plugin sleeps.
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let pid = runner.worker().to_string();
    let said = e2e::wait::until("the plugin is found in the worker", || {
        let said = ask_gdb(&gdb, ["-p", &pid], &LOOK);
        (said.contains("misbehaving::trouble") || said.contains("not permitted")).then_some(said)
    });
    if said.contains("not permitted") {
        return e2e::skipped("gdb may not attach to a process here");
    }
    assert!(said.contains("misbehaving/src/trouble.rs:"), "{said}");
    assert!(
        said.contains("libmisbehaving-"),
        "the private copy is named: {said}"
    );
    let folder = tempfile::tempdir().unwrap();
    let core = folder.path().join("core").display().to_string();
    let dump = format!("generate-core-file {core}");
    let dumped = ask_gdb(&gdb, ["-p", &pid], &[&dump]);
    assert!(dumped.contains("Saved corefile"), "{dumped}");
    let program = artifacts::runner().to_str().unwrap();
    let said = ask_gdb(&gdb, [program, &core], &LOOK);
    assert!(said.contains("misbehaving/src/trouble.rs:"), "{said}");
}

#[test]
fn a_library_without_debug_information_still_has_its_names_in_backtraces_and_in_a_debugger() {
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("libmisbehaving.so");
    // What `strip = "debuginfo"` has the linker do.
    let mut strip = Command::new("strip");
    strip.arg("--strip-debug").arg("-o").arg(&stripped);
    let Ok(status) = strip.arg(artifacts::library("misbehaving")).status() else {
        return e2e::skipped("there is no `strip`");
    };
    assert!(status.success());
    let runner = Setup::with(&[]).env("RUST_BACKTRACE", "1").start();
    let bytes = fs::read(&stripped).unwrap();
    runner.setup().lay("libmisbehaving.so", &bytes);
    runner.log().wait_for(&["misbehaving 0.1.0 serves"]);
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&PANIC), Reply::Error(Code::ServiceUnavailable));
    // File and line of the panic are in its message.
    let place = place("panicked as it was told to");
    let log = runner.log();
    log.wait_for(&["panicked as it was told to", "misbehaving::trouble", &place]);
    let Some(gdb) = gdb() else {
        return e2e::skipped("there is no gdb");
    };
    let token = gateway.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 600000}"#)]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let pid = runner.worker().to_string();
    let said = e2e::wait::until("the plugin is found in the worker", || {
        let said = ask_gdb(&gdb, ["-p", &pid], &LOOK);
        (said.contains("misbehaving::trouble") || said.contains("not permitted")).then_some(said)
    });
    if said.contains("not permitted") {
        e2e::skipped("gdb may not attach to a process here");
    }
}
