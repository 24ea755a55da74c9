//! What the log says, and how.

use std::fs;

use e2e::message::{Reply, Request, Response};
use e2e::runner::{Runner, Setup};
use e2e::wait;
use rustix::process::Signal;

const LOG: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "log"}"#)];

#[test]
fn the_start_is_a_few_useful_lines() {
    let runner = Runner::with(&["stop", "say"]);
    runner.log().wait_for(&["ready: 2 plugins"]);
    for part in ["plugin ABI 1.", "listening on", "stop 0.1.0", "say 0.1.0"] {
        assert_eq!(runner.log().with(part).len(), 1, "{part}");
    }
    assert!(runner.log().lines().len() < 10);
}

#[test]
fn events_of_a_plugin_come_under_its_name_with_their_fields_inside_the_calls_span() {
    let runner = Runner::with(&["misbehaving"]);
    runner.gateway().get(&LOG);
    let line = runner
        .log()
        .wait_for(&["WARN", "misbehaving", "said with tracing", "answer=42"]);
    assert!(line.contains("route#1#"), "{line}");
    runner
        .log()
        .wait_for(&["ERROR", "misbehaving", "said with log"]);
    assert_eq!(runner.log().with("too quietly"), [""; 0]);
}

/// The one event of a plugin with this text in a log of JSON lines.
#[track_caller]
fn event(runner: &Runner, text: &str) -> serde_json::Value {
    let line = runner.log().wait_for(&["\"plugin\":\"tracer\"", text]);
    serde_json::from_str(&line).unwrap()
}

#[test]
fn events_carry_plugin_generation_phase_request_id_and_route_key_in_every_phase() {
    let config = "logging: {format: json, level: debug}\n";
    let phases = ["rewrite", "access", "header_filter", "body_filter", "log"];
    for phase in phases {
        let runner = Setup::with(&["tracer"]).config(config).start();
        let mut gateway = runner.gateway().response_body("x");
        let conf = format!(r#"{{"say_in": "{phase}"}}"#);
        let token = gateway.prepare(&[("tracer", &conf)]);
        match phase {
            "header_filter" | "body_filter" => {
                gateway.response(token, &Response::new(200, &[])).answer();
            }
            _ => assert_eq!(gateway.request(token, &Request::get("/")), Reply::Nothing),
        }
        let said = event(&runner, "said in a phase");
        assert_eq!(said["phase"], phase, "{said}");
        assert_eq!(said["generation"], 1, "{said}");
        assert!(said["id"].is_u64(), "{said}");
        let key = said["route_key"].as_str().unwrap_or_default();
        assert!(key.starts_with("route#1#"), "{said}");
    }
}

#[test]
fn events_outside_of_a_call_carry_what_there_is_to_know() {
    let config = "logging: {format: json, level: debug}\n";
    let runner = Setup::with(&["tracer"]).config(config).start();
    let conf = r#"{"say_in": "configure"}"#;
    assert_eq!(runner.gateway().get(&[("tracer", conf)]), Reply::Nothing);
    let said = event(&runner, "said at the start");
    assert_eq!(said["phase"], "init_worker", "{said}");
    assert_eq!(said["generation"], 1, "{said}");
    let said = event(&runner, "said in a phase");
    assert_eq!(said["phase"], "configure", "{said}");
    assert_eq!(said["generation"], 1, "{said}");
    let key = said["route_key"].as_str().unwrap_or_default();
    assert!(key.starts_with("route#1#"), "{said}");
}

#[test]
fn the_level_reaches_into_the_plugins() {
    let runner = Setup::with(&["misbehaving"])
        .config("logging:\n  level: debug\n")
        .start();
    runner.gateway().get(&LOG);
    runner
        .log()
        .wait_for(&["DEBUG", "misbehaving", "said too quietly"]);
}

#[test]
fn every_line_is_json_where_the_configuration_says_so() {
    let runner = Setup::with(&["misbehaving"])
        .config("logging:\n  format: json\n")
        .start();
    runner.gateway().get(&LOG);
    let line = runner.log().wait_for(&["said with tracing"]);
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["plugin"], "misbehaving", "{line}");
    assert_eq!(event["level"], "warn", "{line}");
    assert!(line.contains("\"answer\":42"), "{line}");
    for line in runner.log().lines() {
        let event: serde_json::Value = serde_json::from_str(&line).expect(&line);
        assert!(event.is_object());
    }
}

#[test]
fn a_log_file_is_opened_again_on_sigusr1() {
    let runner = Setup::with(&["misbehaving"])
        .config("logging:\n  file: the.log\n")
        .start();
    let file = runner.setup().folder().join("the.log");
    let has = |file: &std::path::Path, text: &str| {
        fs::read_to_string(file)
            .is_ok_and(|log| log.contains(text))
            .then_some(())
    };
    wait::until("the file says ready", || has(&file, "ready: 1 plugin"));
    let rotated = runner.setup().folder().join("the.log.1");
    fs::rename(&file, &rotated).unwrap();
    runner.signal(Signal::USR1);
    wait::until("there is a new file", || file.exists().then_some(()));
    runner.gateway().get(&LOG);
    wait::until("the new file has the event", || {
        has(&file, "said with tracing")
    });
    assert!(has(&rotated, "said with tracing").is_none());
}

#[test]
fn calls_that_go_well_are_not_logged() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("stop", "{}")]);
    runner.log().wait_for(&["ready"]);
    let before = runner.log().lines().len();
    for _ in 0..100 {
        gateway.request(token, &Request::get("/"));
    }
    runner.signal(Signal::HUP);
    assert_eq!(
        gateway.get(&[("no-such", "{}")]),
        e2e::message::Reply::Error(e2e::message::Code::ServiceUnavailable)
    );
    runner.log().wait_for(&["no-such"]);
    assert!(
        runner.log().lines().len() - before < 5,
        "{:#?}",
        runner.log().lines()
    );
}

#[test]
fn a_log_that_nobody_reads_blocks_no_call() {
    // Without a reader the pipe is full after 64 KiB.
    let setup = Setup::with(&["misbehaving", "stop"]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = setup.command();
    let mut child = command
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    drop(command);
    let socket = setup.socket();
    wait::until("it accepts", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let mut gateway = e2e::gateway::Gateway::connect(&socket);
    let token = gateway.prepare(&LOG);
    for _ in 0..3000 {
        gateway.request(token, &Request::get("/"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(reader);
}

#[test]
fn what_a_plugin_prints_is_passed_on_line_by_line() {
    let runner = Runner::with(&["misbehaving"]);
    runner
        .gateway()
        .get(&[("misbehaving", r#"{"mode": "print"}"#)]);
    runner.log().wait_for(&["printed to standard output"]);
    runner.log().wait_for(&["printed to standard error"]);
}
