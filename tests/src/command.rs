//! Commands that ask a running runner.

use std::process::{Command, Output};

use crate::artifacts;
use crate::runner::Runner;
use crate::wait;

/// Runs `plugin-runner` with the configuration of this runner.
pub fn command(runner: &Runner, arguments: &[&str]) -> Output {
    let config = runner.setup().folder().join("config.yaml");
    let mut command = Command::new(artifacts::runner());
    command.args(arguments).arg("--config").arg(config);
    command.env_clear().output().unwrap()
}

/// All that a command has printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Waits until the runner serves.
#[track_caller]
pub fn wait_until_ready(runner: &Runner) {
    wait::until("it is ready", || {
        let output = command(runner, &["status", "--ready"]);
        output.status.success().then_some(())
    });
}

/// Runs a command that works, and checks what it prints.
#[track_caller]
pub fn succeeds(runner: &Runner, arguments: &[&str], text: &str) {
    let output = command(runner, arguments);
    let said = said(&output);
    assert!(output.status.success() && said.contains(text), "{said}");
}

/// Runs a command that does not work, with exit code 1, and checks what it prints.
#[track_caller]
pub fn fails(runner: &Runner, arguments: &[&str], text: &str) {
    let output = command(runner, arguments);
    let said = said(&output);
    assert!(
        output.status.code() == Some(1) && said.contains(text),
        "{said}"
    );
}
