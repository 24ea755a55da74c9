//! A running runner is asked at the command line.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use e2e::command::{command, fails, said, succeeds, wait_until_ready};
use e2e::runner::{Runner, Setup};
use e2e::wait;

#[test]
fn status_says_what_each_plugin_has_done() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    wait_until_ready(&runner);
    let mut gateway = runner.gateway();
    gateway.get(&[("stop", "{}")]).answer();
    gateway.get(&[("misbehaving", r#"{"mode": "panic"}"#)]);
    let output = command(&runner, &["status"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "1 connection",
        "misbehaving 0.1.0: serving, generation ",
        "loaded ",
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
    wait_until_ready(&runner);
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

#[test]
fn the_list_of_a_running_runner_is_what_it_has_loaded() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    wait_until_ready(&runner);
    runner.setup().lay("libbroken.so", b"no library");
    let broken = "libbroken.so is refused: it is no ELF file";
    wait::until("what is broken is told", || {
        let list = said(&command(&runner, &["list"]));
        list.contains("libbroken.so is refused").then_some(())
    });
    let list = said(&command(&runner, &["list"]));
    let rows: Vec<Vec<&str>> = list
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][3..], ["STATE", "GENERATION", "FILE"], "{broken}");
    assert_eq!(rows[1][..4], ["0", "stop", "0.1.0", "serving"]);
    assert_eq!(rows[2][..4], ["-7", "misbehaving", "0.1.0", "serving"]);
    let json = said(&command(&runner, &["list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["plugins"][0]["name"], "misbehaving");
    let phases = serde_json::json!(["rewrite", "access", "header_filter"]);
    assert_eq!(list["plugins"][0]["phases"], phases);
    assert_eq!(list["plugins"][0]["calls"], 0);
    // As of the plugins of a folder.
    let (misbehaving, stop) = (&list["plugins"][0], &list["plugins"][1]);
    assert_eq!(
        stop["schema"]["properties"]["status"]["default"], 200,
        "{list}"
    );
    assert_eq!(misbehaving["schema"]["type"], "object", "{list}");
    assert_eq!(stop["authenticates"], false);
    let status = said(&command(&runner, &["status", "--json"]));
    assert!(!status.contains("schema"), "{status}");
    assert_eq!(list["libraries"].as_array().unwrap().len(), 3);
}

#[test]
fn a_plugin_that_is_not_there_is_told_with_the_nearest_name() {
    let runner = Runner::with(&["misbehaving", "stop"]);
    wait_until_ready(&runner);
    let meant = "did you mean `stop`?";
    for command in ["reload", "rollback", "quarantine"] {
        fails(&runner, &[command, "stpo"], meant);
    }
    fails(
        &runner,
        &["release", "stop"],
        "nothing of plugin `stop` is quarantined",
    );
    succeeds(
        &runner,
        &["reload", "stop"],
        "stop 0.1.0 serves: generation 3",
    );
}

#[test]
fn a_reload_names_the_keys_that_need_a_restart() {
    let setup = Setup::with(&["stop"]);
    let runner = setup.start();
    wait_until_ready(&runner);
    let file = runner.setup().folder().join("config.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let more = "worker:\n  threads: 7\nlogging:\n  level: debug\n";
    fs::write(&file, text + more).unwrap();
    let output = command(&runner, &["reload"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("need a restart of the runner: worker.threads"),
        "{said}"
    );
    assert!(said.contains("logging.level: debug from now on"), "{said}");
}

#[test]
fn whoever_misuses_the_control_socket_holds_up_nobody() {
    let runner = Runner::with(&["stop"]);
    wait_until_ready(&runner);
    let name = format!("state/control/{}.sock", runner.pid());
    let socket = runner.setup().folder().join(name);
    let connect = || UnixStream::connect(&socket).unwrap();
    for garbage in [
        &[0xff; 64][..],
        &[0, 0, 0, 2, 0, 0, 0, 0, b'{', b'}'],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = connect();
        connection.write_all(garbage).unwrap();
        let ended = std::io::Read::read(&mut connection, &mut [0; 16]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut connection = connect();
            // Those beyond what is allowed at once are closed at once.
            let _ = connection.write_all(&[0, 0, 0]);
            connection
        })
        .collect();
    let asked = Instant::now();
    assert_eq!(
        runner
            .gateway()
            .get(&[("stop", r#"{"body": "ok"}"#)])
            .text(),
        "ok"
    );
    assert!(asked.elapsed().as_millis() < 1000, "{:?}", asked.elapsed());
    wait_until_ready(&runner);
    assert!(asked.elapsed().as_secs() < 10, "{:?}", asked.elapsed());
    drop(slow);
}
