//! The socket file: who may use it, how it is taken over, what is left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use e2e::runner::{Runner, Setup};
use e2e::wait;

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];

#[test]
fn the_gateways_workers_may_write_to_it() {
    let runner = Runner::with(&["stop"]);
    let mode = fs::metadata(runner.setup().socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o766);
    let runner = Setup::with(&["stop"])
        .config("socket:\n  mode: 0700\n")
        .start();
    let mode = fs::metadata(runner.setup().socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn what_an_older_runner_left_is_replaced() {
    let setup = Setup::with(&["stop"]);
    drop(UnixListener::bind(setup.socket()).unwrap());
    assert!(UnixStream::connect(setup.socket()).is_err());
    let runner = setup.start();
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let setup = Setup::with(&["stop"]);
    fs::write(setup.socket(), "precious").unwrap();
    let output = setup.command().stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(fs::read_to_string(setup.socket()).unwrap(), "precious");
}

#[test]
fn it_accepts_before_any_plugin_is_loaded_and_the_first_call_waits_for_them() {
    let setup = Setup::with(&["stop", "rewrite", "say", "do"]);
    let runner = setup.spawn();
    let socket = runner.setup().socket();
    wait::until("the socket is there", || UnixStream::connect(&socket).ok());
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

#[test]
fn another_user_is_refused_unless_the_configuration_names_it() {
    if !rustix::process::geteuid().is_root() {
        return e2e::skipped("not root: cannot become another user");
    }
    let setup = Setup::with(&["stop"]);
    let client = [
        "-c",
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'\\x63\\0\\0\\0'); sys.exit(0 if s.recv(9) else 7)",
    ];
    let connect = |runner: &Runner| {
        let mut command = std::process::Command::new("python3");
        std::os::unix::process::CommandExt::uid(&mut command, 12345);
        command
            .args(client)
            .arg(runner.setup().socket())
            .stderr(Stdio::null());
        command.status()
    };
    let runner = setup.start();
    let Ok(status) = connect(&runner) else {
        return e2e::skipped("python3 is not installed");
    };
    assert!(!status.success());
    runner.log().wait_for(&["12345", "socket.peers"]);
    let runner = Setup::with(&["stop"])
        .config("socket:\n  peers: [12345]\n")
        .start();
    assert!(connect(&runner).unwrap().success());
}

#[test]
fn a_socket_that_the_gateways_user_cannot_reach_is_pointed_out() {
    let runner = Setup::with(&["stop"])
        .config("socket:\n  mode: 0700\n")
        .start();
    runner.log().wait_for(&["another user", "socket.mode"]);
    let setup = Setup::with(&["stop"]);
    fs::set_permissions(setup.folder(), fs::Permissions::from_mode(0o700)).unwrap();
    let runner = setup.spawn();
    runner.log().wait_for(&["another user", "closed", "o+x"]);
}
