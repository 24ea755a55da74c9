//! `list`, `schema`, and confs that a schema refuses.

use std::process::{Command, Output};

use e2e::artifacts;
use e2e::message::{Code, Reply};
use e2e::runner::{Runner, Setup};
use serde_json::Value;

fn ask(setup: &Setup, arguments: &[&str]) -> Output {
    let mut command = Command::new(artifacts::runner());
    command
        .args(arguments)
        .arg("--plugins")
        .arg(setup.plugins());
    command.current_dir(setup.folder());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_list_is_in_the_order_of_priority_and_names_what_cannot_serve() {
    let setup = Setup::with(&[
        "tracer",
        "acl",
        "stop",
        "key-auth",
        "ip-restriction",
        "bot-detection",
    ]);
    setup.lay("libbroken.so", b"no library");
    let list = text(&ask(&setup, &["list"]));
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["PRIORITY", "PLUGIN", "VERSION", "STATE", "PHASES", "FILE"]
    );
    // Kong's priorities; of two with the same one, the name decides.
    let order = [
        ["2500", "bot-detection", "0.1.0"],
        ["1250", "key-auth", "0.1.0"],
        ["990", "ip-restriction", "0.1.0"],
        ["950", "acl", "0.1.0"],
        ["0", "stop", "0.1.0"],
        ["0", "tracer", "0.1.0"],
    ];
    for (row, wanted) in rows[1..].iter().zip(order) {
        assert_eq!(row[..3], wanted);
    }
    assert_eq!(
        rows[6][4..9],
        ["rewrite", "access", "header_filter", "body_filter", "log"]
    );
    assert!(list.contains("libbroken.so cannot serve: "), "{list}");
}

#[test]
fn the_list_as_json_has_everything() {
    let setup = Setup::with(&["stop", "key-auth"]);
    let list: Value = serde_json::from_str(&text(&ask(&setup, &["list", "--json"]))).unwrap();
    let key_auth = &list["plugins"][0];
    assert_eq!(key_auth["name"], "key-auth");
    assert_eq!(key_auth["priority"], 1250);
    assert_eq!(key_auth["authenticates"], true);
    let hidden = &key_auth["schema"]["properties"]["hide_credentials"];
    assert_eq!(hidden["default"], false, "{list}");
    let stop = &list["plugins"][1];
    assert_eq!(stop["name"], "stop");
    assert_eq!(stop["version"], "0.1.0");
    assert_eq!(stop["priority"], 0);
    assert_eq!(stop["phases"], serde_json::json!(["access"]));
    assert_eq!(stop["state"], "serves");
    assert_eq!(stop["abi"], "1.0");
    assert_eq!(stop["schema"]["properties"]["status"]["default"], 200);
}

#[test]
fn the_schema_of_a_plugin_is_printed() {
    let setup = Setup::with(&["stop"]);
    let schema: Value = serde_json::from_str(&text(&ask(&setup, &["schema", "stop"]))).unwrap();
    assert_eq!(schema["properties"]["status"]["maximum"], 599);
    let unknown = ask(&setup, &["schema", "stpo"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("no library offers plugin `stpo`"), "{said}");
}

#[test]
fn a_conf_that_the_schema_refuses_is_told_with_plugin_route_place_and_what_is_allowed() {
    let runner = Runner::with(&["stop"]);
    let conf = r#"{"status": 150, "bdoy": "x"}"#;
    let reply = runner.gateway().get(&[("stop", conf)]);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    runner.log().wait_for(&[
        "stop 0.1.0 refused the conf of this route",
        "route#1#ext-plugin-pre-req#",
        "at `status`: 150 is less than the minimum of 200",
        "at `bdoy`: unknown key; did you mean `body`?",
    ]);
}
