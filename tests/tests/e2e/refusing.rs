//! Files that are no plugin of ours: each is refused with one readable sentence and a way out, and what served before
//! goes on serving.

use e2e::artifacts::{library, patched};
use e2e::message::Reply;
use e2e::runner::{Runner, Setup};
use e2e::wait;

const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];

/// Lays bytes over a serving library: its old build goes on, and the log has one line with these words.
#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let runner = Runner::with(&["misbehaving", "stop"]);
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    runner.setup().lay("libmisbehaving.so", bytes);
    let line = runner
        .log()
        .wait_for(&[&["libmisbehaving.so", "cause", "hint"], words].concat());
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    assert!(
        line.len() < 600,
        "{} bytes are no sentence: {line}",
        line.len()
    );
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    assert_eq!(gateway.get(&[("stop", "{}")]).answer().status, 200);
}

fn bytes() -> Vec<u8> {
    std::fs::read(library("misbehaving")).unwrap()
}

#[test]
fn a_file_that_is_no_library_is_refused() {
    refused(b"#!/bin/sh\necho not a library\n", &["ELF"]);
}

#[test]
fn an_empty_file_is_refused() {
    refused(b"", &["truncated"]);
}

#[test]
fn a_truncated_library_is_refused() {
    let bytes = bytes();
    for part in [1, 5, 9] {
        refused(&bytes[..bytes.len() * part / 10], &["truncated"]);
    }
}

#[test]
fn a_library_without_a_plugin_in_it_is_refused() {
    // The compiler's own macros are libraries too.
    let section = b".plugin_runner";
    refused(
        &patched("misbehaving", section, b".another_thing"),
        &["is not a plugin"],
    );
}

#[test]
fn a_library_of_another_major_version_is_refused() {
    let old = b"GWPLUGIN\x01\x00";
    refused(
        &patched("misbehaving", old, b"GWPLUGIN\x02\x00"),
        &["plugin ABI 2.0"],
    );
}

#[test]
fn a_library_for_another_target_is_refused() {
    let (own, other) = match cfg!(target_arch = "x86_64") {
        true => (b"\"target\":\"x86_64", b"\"target\":\"mips64"),
        false => (
            b"\"target\":\"aarch64"[..].first_chunk().unwrap(),
            b"\"target\":\"mips64",
        ),
    };
    refused(
        &patched("misbehaving", own, other),
        &["was built for mips64"],
    );
}

#[test]
fn a_library_without_the_header_is_refused() {
    let name = b"plugin_runner_header";
    refused(
        &patched("misbehaving", name, b"plugin_runner_headed"),
        &["#[plugin]"],
    );
}

#[test]
fn a_broken_file_at_the_start_keeps_nobody_else_from_serving() {
    let setup = Setup::with(&["stop"]);
    setup.lay("libbroken.so", b"broken");
    let runner = setup.start();
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    runner.log().wait_for(&["libbroken.so", "hint"]);
}

#[test]
fn a_plugin_whose_start_fails_does_not_serve_and_keeps_nobody_else_from_it() {
    for (word, text) in [
        ("fail", "was told to fail"),
        ("panic", "started as it was told to"),
    ] {
        let config = format!("plugins:\n  settings:\n    misbehaving:\n      init: {word}\n");
        let runner = Setup::with(&["misbehaving", "stop"])
            .config(&config)
            .start();
        assert!(matches!(runner.gateway().get(&MARK), Reply::Error(_)));
        runner.log().wait_for(&["libmisbehaving.so", text]);
        assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    }
}

#[test]
fn a_build_whose_start_fails_or_hangs_leaves_the_one_before_serving() {
    let runner = Setup::with(&["misbehaving"])
        .config("plugins:\n  probe_deadline: 700ms\n")
        .start();
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    for (mark, cause) in [
        (
            "mark-start-fails",
            "its init_worker failed: this build was told to fail",
        ),
        (
            "mark-start-hangs",
            "did not come back within 700ms in init_worker",
        ),
    ] {
        runner.lay_mark(mark);
        runner.log().wait_for(&["libmisbehaving.so", cause]);
        assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    }
    runner.lay_mark("mark-is-good-now");
    runner
        .log()
        .wait_for(&["misbehaving", "serves: generation"]);
    wait::until("the good build serves", || {
        (gateway.get(&MARK).text() == "mark-is-good-now").then_some(())
    });
}

#[test]
fn other_files_in_the_folder_are_ignored() {
    let setup = Setup::with(&["stop"]);
    setup.lay("README.md", b"about the plugins");
    setup.lay(".libhidden.so", b"unfinished");
    let runner = setup.start();
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    for name in ["README.md", "libhidden"] {
        assert_eq!(runner.log().with(name), [""; 0]);
    }
}
