//! `call`: one request or response through plugins, without a gateway.

use std::fs;
use std::process::{Command, Output};

use e2e::artifacts;
use serde_json::Value;

pub(crate) fn call(arguments: &[&str]) -> Output {
    let plugins = artifacts::library("stop");
    let mut command = Command::new(artifacts::runner());
    command
        .arg("call")
        .arg("--plugins")
        .arg(plugins.parent().unwrap());
    command.args(arguments).output().unwrap()
}

#[track_caller]
pub(crate) fn report(arguments: &[&str]) -> Value {
    let output = call(&[&["--json"], arguments].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"))
}

#[track_caller]
pub(crate) fn text(arguments: &[&str]) -> String {
    let output = call(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_phase_is_shown_with_what_it_changed_and_how_long_it_took() {
    let report = report(&[
        "--plugin",
        r#"tracer={"label": "a"}"#,
        "--plugin",
        "rewrite",
        "--plugin",
        r#"say={"body": "hi"}"#,
        "/x?a=1",
        "--repeat",
        "10",
    ]);
    let steps = report["steps"].as_array().unwrap();
    let ran: Vec<_> = steps
        .iter()
        .map(|step| {
            (
                step["plugin"].as_str().unwrap(),
                step["phase"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("tracer", "rewrite"),
        ("tracer", "access"),
        ("rewrite", "access"),
        ("say", "access"),
        ("tracer", "log"),
    ];
    assert_eq!(ran, wanted);
    assert!(
        steps
            .iter()
            .all(|step| step["took_ns"].as_u64().unwrap() > 0)
    );
    let path = &steps[2]["changes"][0];
    assert_eq!(
        (&path["what"], &path["after"][0]),
        (&"path".into(), &"/a6/rust/runner".into())
    );
    assert_eq!(steps[3]["decision"], "answer");
    assert_eq!(report["outcome"]["status"], 200);
    assert_eq!(report["outcome"]["body"], "hi");
    assert_eq!(report["again"]["calls"], 10);
}

#[test]
fn a_person_sees_a_diff_and_what_the_upstream_or_the_client_gets() {
    let rewrite = text(&["--plugin", "rewrite", "/x", "-H", "X-Old: 1"]);
    assert!(
        rewrite.contains("+ header x-resp-a6-runner: Rust"),
        "{rewrite}"
    );
    assert!(
        rewrite.contains("the upstream gets the request with\n    path /a6/rust/runner"),
        "{rewrite}"
    );
    assert!(!rewrite.contains('\x1b'), "no colours without a terminal");
    let pass = text(&["--plugin", "say", "/x"]);
    assert!(pass.contains("the request passes unchanged"), "{pass}");
    let response = text(&[
        "--plugin",
        r#"response-rewrite={"status": 202}"#,
        "--response",
        "200",
        "-d",
        "page",
        "-H",
        "Content-Type: a/b",
    ]);
    assert!(
        response.contains("header_filter")
            && response.contains("the client gets 202\n    content-type: a/b"),
        "{response}"
    );
}

#[test]
fn what_a_plugin_logs_stands_under_its_phase_with_the_hook_that_was_asked_for() {
    let tracer = ["--plugin", r#"tracer={"label": "a"}"#, "/x", "--at"];
    for (at, hook) in [("pre", "PreRequest"), ("post", "PostRequest")] {
        let report = report(&[&tracer[..], &[at]].concat());
        let steps = report["steps"].as_array().unwrap();
        assert!(steps[0].get("logged").is_none(), "{report}");
        let logged = &steps.last().unwrap()["logged"];
        assert_eq!(logged.as_array().unwrap().len(), 1, "{report}");
        assert_eq!(
            (&logged[0]["level"], &logged[0]["message"]),
            (&"info".into(), &"logged".into())
        );
        assert!(
            logged[0]["fields"].as_str().unwrap().contains(hook),
            "{report}"
        );
    }
    let shown = text(&[&tracer[..], &["post"]].concat());
    assert!(
        shown.contains("has logged it\n      info logged {"),
        "{shown}"
    );
    fails(
        &["--plugin", "say", "--response", "200", "--at", "post"],
        64,
        "--at",
    );
}

#[test]
fn what_plugins_ask_the_gateway_for_can_be_given() {
    let asked = report(&[
        "--plugin",
        "asking",
        "/x",
        "--var",
        "remote_port=4711",
        "-d",
        "the body",
        "-H",
        "$request_id: r-1",
    ]);
    assert_ne!(asked["outcome"]["kind"], "error", "{asked}");
    let known: Vec<_> = asked["declared"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert!(!known.is_empty(), "{asked}");
}

#[test]
fn a_call_may_stand_in_a_file_that_looks_like_http() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sample.http");
    fs::write(&file, "POST /upload\nX-Key: secret\n\nthe body\n").unwrap();
    let file = file.display().to_string();
    let conf = r#"request-body-rewrite={"new_body": "another"}"#;
    let report = report(&["--plugin", conf, "--request", &file]);
    assert_eq!(report["call"], "POST /upload");
    assert_eq!(report["outcome"]["body"], "another", "{report}");
    fs::write(&file, "upload please now ok\n").unwrap();
    let output = call(&["--plugin", "say", "--request", &file]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 1 is `upload please now ok`"));
}

#[track_caller]
pub(crate) fn fails(arguments: &[&str], code: i32, says: &str) {
    let output = call(arguments);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
}

#[test]
fn a_plugin_that_fails_panics_crashes_or_hangs_is_named_with_its_phase() {
    let conf = |mode: &str| format!("misbehaving={{\"mode\": \"{mode}\", \"ms\": 60000}}");
    let one = |mode: &str, says: &str| fails(&["--plugin", &conf(mode), "/"], 1, says);
    one("error", "fails: was told to fail");
    one("panic", "panicked: panicked as it was told to");
    one(
        "segfault",
        "libmisbehaving.so in access crashed and ended the process (signal: 11 (SIGSEGV))",
    );
    one(
        "thread_crash",
        "libmisbehaving.so in a thread of its own crashed",
    );
    one("exit", "libmisbehaving.so in access called exit");
    one("refuse", "misbehaving cannot run: ");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    fs::write(
        &config,
        "plugins:\n  probe_deadline: 200ms\ncalls:\n  deadline: 200ms\n",
    )
    .unwrap();
    let config = config.display().to_string();
    fails(
        &["--config", &config, "--plugin", &conf("sleep"), "/"],
        1,
        "libmisbehaving.so in access did not come back within 1.2s",
    );
}

#[test]
fn wrong_arguments_are_told_with_what_is_right() {
    fails(
        &["--plugin", "nobody", "/"],
        1,
        "no library offers plugin `nobody`",
    );
    fails(&["--plugin", "=x", "/"], 64, "names no plugin");
    fails(
        &["--plugin", "say", "x"],
        64,
        "`x` is no path: it starts with `/`",
    );
    fails(&["--plugin", "say"], 64, "`[METHOD] PATH`");
    fails(
        &["--plugin", "say", "BREW", "/pot"],
        64,
        "the protocol has no method `BREW`",
    );
    fails(
        &["--plugin", "say", "--response", "99"],
        64,
        "99 is no status",
    );
    fails(
        &["--plugin", "say", "/", "-H", "none"],
        64,
        "`none` is no header",
    );
    fails(
        &["--plugin", "say", "/", "--var", "none"],
        64,
        "`none` is no variable",
    );
    fails(&["/"], 64, "--plugin");
    fails(&["--plugin", "say=[", "/"], 1, "say cannot run: ");
}
