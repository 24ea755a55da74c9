//! The command line, the configuration file, the environment.

use std::fs;
use std::process::{Command, Output};

use e2e::artifacts;
use e2e::gateway::Gateway;
use e2e::runner::Setup;
use e2e::wait;

/// The exit code for a wrong command line or configuration.
const USAGE: Option<i32> = Some(64);

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn all_faults_of_a_configuration_come_at_once_with_their_lines() {
    let faults =
        "calls:\n  deadline: never\nplugins:\n  hot_relaod: true\nlogging:\n  level: loud\n";
    let setup = Setup::with(&["stop"]).config(faults);
    let output = output(&mut setup.command());
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), USAGE, "{said}");
    // The harness writes two lines above.
    for part in [
        "config.yaml:4:",
        "calls.deadline",
        "config.yaml:6:",
        "hot_reload",
        "config.yaml:8:",
        "loud",
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    assert!(!setup.socket().exists());
}

#[test]
fn test_checks_the_configuration_and_starts_nothing() {
    let good = Setup::with(&["stop"]).argument("--test");
    let said = output(&mut good.command());
    assert!(said.status.success());
    assert!(text(&said.stdout).contains("good"));
    assert!(!good.socket().exists());
    let bad = Setup::with(&["stop"])
        .argument("--test")
        .config("no_such_section: 1\n");
    assert_eq!(output(&mut bad.command()).status.code(), USAGE);
}

#[test]
fn the_gateways_own_configuration_in_the_working_directory_is_not_ours() {
    let setup = Setup::with(&["stop"]);
    fs::create_dir(setup.folder().join("conf")).unwrap();
    let gateways = "apisix:\n  node_listen: 9080\ndeployment:\n  role: data_plane\n";
    fs::write(setup.folder().join("conf/config.yaml"), gateways).unwrap();
    let state = setup.folder().join("home");
    let mut command = Command::new(artifacts::runner());
    command
        .arg("start")
        .arg("--plugins")
        .arg(setup.plugins())
        .current_dir(setup.folder());
    command.env_clear().env("XDG_STATE_HOME", state);
    command.env(
        "APISIX_LISTEN_ADDRESS",
        format!("unix:{}", setup.socket().display()),
    );
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let socket = setup.socket();
    wait::until("it accepts", || {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    assert_eq!(
        Gateway::connect(&socket)
            .get(&[("stop", "{}")])
            .answer()
            .status,
        200
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_gateways_environment_wins_over_the_file() {
    let runner = Setup::with(&["stop"])
        .config("socket:\n  file: somewhere-else\n")
        .start();
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    assert!(!runner.setup().folder().join("somewhere-else").exists());
}

#[test]
fn relative_paths_start_at_the_file() {
    let setup = Setup::with(&["stop"]).config("socket:\n  file: other/s\n");
    fs::create_dir(setup.folder().join("other")).unwrap();
    let mut command = setup.command();
    command.current_dir("/").env_remove("APISIX_LISTEN_ADDRESS");
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    let socket = setup.folder().join("other/s");
    wait::until("it accepts", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_shipped_configuration_is_good() {
    let file = xtask::cargo::root().join("conf/config.yaml");
    let mut command = Command::new(artifacts::runner());
    command.args(["start", "--test", "--config"]).arg(file);
    let said = output(
        command
            .env_clear()
            .env("APISIX_LISTEN_ADDRESS", "unix:/tmp/x.sock"),
    );
    assert!(said.status.success(), "{}", text(&said.stderr));
}

#[test]
fn version_names_the_plugin_abi() {
    let said = output(Command::new(artifacts::runner()).arg("--version"));
    assert!(said.status.success());
    let said = text(&said.stdout);
    assert!(said.contains("plugin ABI 1."), "{said}");
    assert!(said.contains("rustc"), "{said}");
}

#[test]
fn a_wrong_command_line_ends_with_64_and_says_what_is_known() {
    for arguments in [&["strat"][..], &["start", "--plugin", "x"], &[]] {
        let said = output(Command::new(artifacts::runner()).args(arguments));
        assert_eq!(said.status.code(), USAGE, "{arguments:?}");
        assert!(!said.stderr.is_empty());
    }
}

#[test]
fn help_to_a_reader_that_went_away_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(artifacts::runner());
    let said = output(command.arg("--help").stdout(writer));
    assert!(
        !text(&said.stderr).contains("panicked"),
        "{}",
        text(&said.stderr)
    );
}
