//! A running runner is asked at the command line.

use std::process::{Command, Output};

use e2e::artifacts;
use e2e::runner::{Runner, Setup};
use e2e::wait;

/// Runs `plugin-runner` with the configuration of this runner.
fn command(runner: &Runner, arguments: &[&str]) -> Output {
    let config = runner.setup().folder().join("config.yaml");
    let mut command = Command::new(artifacts::runner());
    command.args(arguments).arg("--config").arg(config);
    command.env_clear().output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn is_ready(runner: &Runner) -> Option<()> {
    let output = command(runner, &["status", "--ready"]);
    output.status.success().then_some(())
}

#[test]
fn status_says_what_each_plugin_has_done() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    wait::until("it is ready", || is_ready(&runner));
    let mut gateway = runner.gateway();
    gateway.get(&[("stop", "{}")]).answer();
    gateway.get(&[("misbehaving", r#"{"mode": "panic"}"#)]);
    let output = command(&runner, &["status"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "1 connection",
        "misbehaving 0.1.0: serving, generation ",
        "1 conf, 2 calls, 1 error (1 panic)",
        "last error: ",
        "stop 0.1.0: serving, generation ",
        "1 conf, 1 call, 0 errors (0 panics)",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    runner.lay_mark("the-next-of-them");
    let reloaded = command(&runner, &["reload"]);
    assert!(
        said(&reloaded).contains("misbehaving 0.1.0 serves: generation 3"),
        "{reloaded:?}"
    );
    let json = said(&command(&runner, &["status", "--json"]));
    assert!(
        json.contains("\"generations\": 1"),
        "one is retained: {json}"
    );
}

#[test]
fn the_log_level_of_a_running_runner_and_its_plugins_can_be_changed() {
    let runner = Runner::with(&["misbehaving"]);
    wait::until("it is ready", || is_ready(&runner));
    let conf = [("misbehaving", r#"{"mode": "log"}"#)];
    let mut gateway = runner.gateway();
    gateway.get(&conf);
    runner.log().wait_for(&["said with tracing"]);
    assert_eq!(runner.log().with("said too quietly"), [""; 0]);
    let output = command(&runner, &["log-level", "debug"]);
    assert_eq!(said(&output), "log level debug from now on\n");
    wait::until("the plugin says more", || {
        gateway.get(&conf);
        (!runner.log().with("said too quietly").is_empty()).then_some(())
    });
}

#[test]
fn without_a_runner_the_commands_fail_and_say_so() {
    let mut runner = Setup::with(&["stop"]).start();
    runner.signal(rustix::process::Signal::TERM);
    runner.wait();
    for arguments in [["status", "--ready"].as_slice(), &["status"], &["reload"]] {
        let output = command(&runner, arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("no runner was found"), "{output:?}");
    }
}
