//! Old and new side by side: plugins of kept versions of the ABI in the runner of today, plugins of today in the runner
//! of those days. `tests/frozen/README.md` says what is kept.

use std::fs;
use std::path::Path;

use e2e::artifacts::{library, patched};
use e2e::message::{Code, Question, Reply, Request, Response, entries, value_of};
use e2e::runner::{Runner, Setup};
use e2e::{frozen, skipped};
use plugin_api::{ABI_MAJOR, ABI_MINOR};
use xtask::elsewhere::Copy;
use xtask::freeze;

const CONF: [(&str, &str); 1] = [("frozen", r#"{"greeting": "hello"}"#)];
const SETTINGS: &str = "plugins:\n  settings:\n    frozen:\n      setting: set\n";
const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const HELLO: &str = "Hello, Rust Runner of APISIX";

/// Everything that the plugin of a kept version does, over the socket.
#[track_caller]
pub(crate) fn does_all_it_could(setup: Setup, library: &Path) {
    setup.lay("libfrozen.so", &fs::read(library).unwrap());
    let runner = setup.config(SETTINGS).start();
    runner.log().wait_for(&["frozen 1.0.0 serves"]);
    changes_a_request(&runner);
    answers_and_fails(&runner);
    changes_a_response(&runner);
    assert!(runner.command(&["reload", "--recycle"]).status.success());
    let said = ["frozen", "goes on with version 3 of its state: hello"];
    runner.log().wait_for(&said);
    let (misspelt, empty) = (r#"{"greting": "x"}"#, r#"{"greeting": ""}"#);
    for (conf, reason) in [(misspelt, "did you mean `greeting`?"), (empty, "is empty")] {
        assert_eq!(runner.gateway().get(&[("frozen", conf)]), UNAVAILABLE);
        runner.log().wait_for(&["frozen", reason]);
    }
}

fn changes_a_request(runner: &Runner) {
    let mut gateway = runner.gateway().variable("remote_port", "1234");
    gateway = gateway.request_body("more");
    let token = gateway.prepare(&CONF);
    let mut request = Request::get("/").header("x-gone", "1");
    request.args.push((b"flag".to_vec(), None));
    let rewrite = gateway.request(token, &request).rewrite();
    assert_eq!(rewrite.path, b"/frozen");
    assert_eq!(rewrite.body, b"more and more");
    for (name, value) in [
        ("x-setting", Some("set")),
        ("x-gone", None),
        ("x-port", Some("1234")),
    ] {
        let found = rewrite
            .headers
            .iter()
            .find(|(found, _)| found == name.as_bytes());
        let found = found.map(|(_, found)| found.as_deref());
        assert_eq!(found, Some(value.map(str::as_bytes)), "{name}");
    }
    assert_eq!(value_of(&rewrite.args, "flags").as_deref(), Some("1"));
    assert_eq!(rewrite.response_headers, entries(&[("X-Beside", "1")]));
    runner.log().wait_for(&["hello was logged", "frozen"]);
    // What it declared was asked in one go, before the first phase; the host when it was read.
    assert_eq!(gateway.asked.len(), 3);
    assert_eq!(gateway.asked[2], Question::Variable("host".to_owned()));
}

fn answers_and_fails(runner: &Runner) {
    let with_body = |body| {
        runner
            .gateway()
            .variable("host", "h.test")
            .request_body(body)
    };
    let answer = with_body("stop").get(&CONF).answer();
    assert_eq!(answer.status, 418);
    assert_eq!(answer.header("x-host").as_deref(), Some("h.test"));
    let text = answer.text();
    assert!(text.starts_with("hello GET 127.0.0.1 route#1#"), "{text}");
    for (body, reason) in [
        ("fail", "was told to fail"),
        ("panic", "panicked as it was told to"),
    ] {
        assert_eq!(with_body(body).get(&CONF), UNAVAILABLE);
        runner.log().wait_for(&["frozen", reason]);
    }
}

fn changes_a_response(runner: &Runner) {
    let mut gateway = runner.gateway().response_body("hello");
    let token = gateway.prepare(&CONF);
    let upstream = [("Set-Cookie", "a"), ("Set-Cookie", "b"), ("X-Gone", "1")];
    let answer = gateway
        .response(token, &Response::new(201, &upstream))
        .answer();
    assert_eq!((answer.status, answer.text().as_str()), (202, "HELLO"));
    let mut expected = entries(&upstream[..2]);
    expected.extend(entries(&[("X-Cookies", "2"), ("X-Greeting", "hello")]));
    assert_eq!(answer.headers, expected);
}

#[test]
fn a_library_that_was_recorded_with_its_version_does_all_it_could() {
    for version in freeze::versions().unwrap() {
        let library = freeze::library(&version).unwrap();
        if !library.exists() {
            skipped(&format!(
                "{} was not recorded for this target",
                library.display()
            ));
            continue;
        }
        does_all_it_could(Setup::with(&[]), &library);
    }
}

#[test]
fn a_plugin_built_today_from_a_kept_contract_does_all_it_could() {
    for version in freeze::versions().unwrap() {
        does_all_it_could(Setup::with(&[]), &frozen::plugin(&version));
    }
}

#[test]
fn the_oldest_runner_runs_plugins_of_today_and_of_the_next_minor_version() {
    let next = Copy::new("stop", "stop-for-the-oldest").unwrap();
    let next = next
        .build(&["--features", "gateway-plugin-api/next-minor"])
        .unwrap();
    for version in freeze::versions().unwrap() {
        for (library, minor) in [(&library("stop"), ABI_MINOR), (&next, ABI_MINOR + 1)] {
            let said = frozen::oldest_runner(&version, library, "{}");
            assert_eq!(
                said,
                format!("abi ({ABI_MAJOR}, {minor}): 200 {HELLO}"),
                "{version}"
            );
        }
        let said = frozen::oldest_runner(&version, &library("stop"), r#"{"statsu": 1}"#);
        assert!(said.contains("did you mean `status`?"), "{said}");
    }
}

#[test]
fn the_oldest_runner_refuses_what_is_too_new_for_it_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |bytes: Vec<u8>, reason: &str| {
        let library = folder.path().join(format!("lib{}.so", reason.len()));
        fs::write(&library, bytes).unwrap();
        for version in freeze::versions().unwrap() {
            let said = frozen::oldest_runner(&version, &library, "{}");
            assert!(
                said.starts_with("refused: ") && said.contains(reason),
                "{said}"
            );
            assert!(said.len() < 200, "{said}");
        }
    };
    let (here, later) = (br#""min_runner":"0.1.0""#, br#""min_runner":"9.9.9""#);
    refused(
        patched("asking", here, later),
        "needs plugin-runner 9.9.9 or newer",
    );
    let (major, next) = (b"GWPLUGIN\x01\x00", b"GWPLUGIN\x02\x00");
    refused(patched("stop", major, next), "was built for plugin ABI 2.");
}

#[test]
fn what_is_sealed_has_not_changed() {
    for version in freeze::versions().unwrap() {
        let changed = freeze::broken_seal(&version).unwrap();
        assert_eq!(
            changed, None,
            "tests/frozen/{version} is published: put it back"
        );
    }
}
