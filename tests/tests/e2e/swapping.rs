//! Libraries that come, change and go while calls flow.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use e2e::artifacts;
use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;
use rustix::process::Signal;

const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];
const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);

#[track_caller]
fn wait_for_mark(runner: &Runner, mark: &str) {
    let mut gateway = runner.gateway();
    wait::until(&format!("`{mark}` serves"), || {
        (gateway.get(&MARK) == marked(mark)).then_some(())
    });
}

fn marked(mark: &str) -> Reply {
    Reply::Stop(e2e::message::Answer {
        status: 200,
        headers: Vec::new(),
        body: mark.into(),
    })
}

#[test]
fn a_replaced_library_serves_the_next_calls_and_no_call_fails() {
    let runner = Runner::with(&["misbehaving"]);
    let marks = [
        "mark-of-the-file",
        "mark-number-0001",
        "mark-number-0002",
        "mark-number-0003",
    ];
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| load(&runner, &marks, &done)))
            .collect();
        for mark in &marks[1..] {
            runner.lay_mark(mark);
            wait_for_mark(&runner, mark);
        }
        done.store(true, Ordering::Relaxed);
        loads
            .into_iter()
            .map(|load| load.join().unwrap())
            .sum::<usize>()
    });
    assert!(seen > 100, "{seen} calls");
}

/// Calls until it is done; every answer is of the newest build seen so far or of a newer one.
fn load(runner: &Runner, marks: &[&str], done: &AtomicBool) -> usize {
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    let (mut calls, mut newest) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let text = gateway.request(token, &Request::get("/")).text();
        let build = marks.iter().position(|mark| *mark == text);
        let build = build.unwrap_or_else(|| panic!("nobody answers `{text}`"));
        assert!(build >= newest, "build {newest} was replaced by {build}");
        newest = build;
        calls += 1;
    }
    assert_eq!(newest, marks.len() - 1);
    calls
}

#[test]
fn a_call_in_flight_finishes_on_the_build_it_started_with() {
    let runner = Runner::with(&["misbehaving", "asking"]);
    let mut gateway = runner.gateway();
    // The first plugin asks the gateway; the second one is replaced before the answer comes.
    let conf = [("misbehaving", r#"{"mode": "ask"}"#), MARK[0]];
    let token = gateway.prepare(&conf);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let question = gateway.receive();
    assert_eq!(question.kind, e2e::message::EXTRA_INFO);
    runner.lay_mark("mark-number-0001");
    wait_for_mark(&runner, "mark-number-0001");
    gateway.send(
        e2e::message::EXTRA_INFO,
        &e2e::message::answer_payload(None),
    );
    assert_eq!(gateway.receive().reply(), marked("mark-of-the-file"));
    let next = gateway.request(token, &Request::get("/"));
    assert_eq!(next, marked("mark-number-0001"));
}

#[test]
fn a_new_library_serves_routes_that_waited_for_it() {
    let runner = Runner::with(&["stop"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    assert_eq!(gateway.request(token, &Request::get("/")), UNAVAILABLE);
    runner.setup().install("misbehaving");
    wait::until("the new library serves", || {
        (gateway.request(token, &Request::get("/")) == marked("mark-of-the-file")).then_some(())
    });
}

#[test]
fn a_removed_library_serves_for_a_grace_period_and_then_its_calls_are_errors() {
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    assert_eq!(
        gateway.request(token, &Request::get("/")),
        marked("mark-of-the-file")
    );
    let removed = Instant::now();
    fs::remove_file(runner.setup().plugins().join("libmisbehaving.so")).unwrap();
    wait::until("the calls are errors", || {
        (gateway.request(token, &Request::get("/")) == UNAVAILABLE).then_some(())
    });
    assert!(
        removed.elapsed().as_millis() > 1500,
        "it went after {:?}",
        removed.elapsed()
    );
    runner.setup().install("misbehaving");
    wait_for_mark(&runner, "mark-of-the-file");
}

#[test]
fn removing_and_copying_anew_fails_no_call() {
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    gateway.request(token, &Request::get("/"));
    let file = runner.setup().plugins().join("libmisbehaving.so");
    let copy = artifacts::marked("mark-number-0001");
    fs::remove_file(&file).unwrap();
    fs::write(&file, copy).unwrap();
    wait::until("the new file serves", || {
        let reply = gateway.request(token, &Request::get("/"));
        assert_ne!(reply, UNAVAILABLE);
        (reply == marked("mark-number-0001")).then_some(())
    });
}

#[test]
fn a_file_written_in_place_slowly_is_taken_when_it_is_whole() {
    let runner = Runner::with(&["misbehaving"]);
    let file = runner.setup().plugins().join("libmisbehaving.so");
    let bytes = artifacts::marked("mark-number-0001");
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    {
        use std::io::Write;
        let mut target = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&file)
            .unwrap();
        for part in bytes.chunks(bytes.len() / 10) {
            target.write_all(part).unwrap();
            let reply = gateway.request(token, &Request::get("/"));
            assert_eq!(reply, marked("mark-of-the-file"));
        }
    }
    wait_for_mark(&runner, "mark-number-0001");
}

#[test]
fn another_file_with_the_same_plugin_takes_over_when_the_serving_one_goes() {
    let runner = Runner::with(&["misbehaving"]);
    wait_for_mark(&runner, "mark-of-the-file");
    let next = artifacts::marked("mark-number-0001");
    runner.setup().lay("libmisbehaving-1.1.so", &next);
    runner.log().wait_for(&["libmisbehaving-1.1.so"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    // The one that serves stays.
    assert_eq!(
        gateway.request(token, &Request::get("/")),
        marked("mark-of-the-file")
    );
    fs::remove_file(runner.setup().plugins().join("libmisbehaving.so")).unwrap();
    wait::until("the other file serves", || {
        let reply = gateway.request(token, &Request::get("/"));
        assert_ne!(reply, UNAVAILABLE);
        (reply == marked("mark-number-0001")).then_some(())
    });
}

#[test]
fn two_files_with_one_plugin_at_the_start_serve_neither_until_the_configuration_names_one() {
    let config = "plugins:\n  files:\n    misbehaving: libmisbehaving-1.1.so\n";
    for (config, expected) in [("", UNAVAILABLE), (config, marked("mark-number-0001"))] {
        let setup = Setup::with(&["misbehaving"]).config(config);
        setup.lay(
            "libmisbehaving-1.1.so",
            &artifacts::marked("mark-number-0001"),
        );
        let runner = setup.start();
        assert_eq!(runner.gateway().get(&MARK), expected, "{config}");
    }
}

#[test]
fn with_hot_reload_off_a_new_file_waits_for_sighup() {
    let config = "plugins:\n  hot_reload: false\n";
    let runner = Setup::with(&["misbehaving"]).config(config).start();
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&MARK), marked("mark-of-the-file"));
    runner.lay_mark("mark-number-0001");
    let started = Instant::now();
    while started.elapsed().as_millis() < 500 {
        assert_eq!(gateway.get(&MARK), marked("mark-of-the-file"));
    }
    runner.signal(Signal::HUP);
    wait_for_mark(&runner, "mark-number-0001");
}

#[test]
fn a_plugin_that_is_disabled_or_not_enabled_does_not_serve() {
    for list in ["disabled: [misbehaving]", "enabled: [stop]"] {
        let config = format!("plugins:\n  {list}\n");
        let runner = Setup::with(&["misbehaving", "stop"])
            .config(&config)
            .start();
        assert_eq!(runner.gateway().get(&MARK), UNAVAILABLE, "{list}");
        assert_eq!(runner.gateway().get(&[("stop", "{}")]).answer().status, 200);
    }
}

#[test]
fn a_conf_that_the_new_build_refuses_stays_on_the_old_one() {
    // Both builds are the same code; what differs is the settings' word for the next one.
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    gateway.request(token, &Request::get("/"));
    let refusing = artifacts::patched("misbehaving", b"mark-of-the-file", b"mark-refuse-conf");
    runner.setup().lay("libmisbehaving.so", &refusing);
    runner.log().wait_for(&["WARN", "route#1#", "refuse"]);
    assert_eq!(
        gateway.request(token, &Request::get("/")),
        marked("mark-of-the-file")
    );
}

#[test]
fn the_swap_of_a_mounted_config_map_is_seen() {
    // A volume of Kubernetes: the files are links into `..data`, which is itself a link that is renamed over.
    let runner = Runner::with(&[]);
    let folder = runner.setup().plugins();
    let publish = |version: &str, mark: &str| {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(
            folder.join(version).join("libmisbehaving.so"),
            artifacts::marked(mark),
        )
        .unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    publish("..2026_01", "mark-number-0001");
    symlink("..data/libmisbehaving.so", folder.join("libmisbehaving.so")).unwrap();
    wait_until_marked(&runner, "mark-number-0001");
    publish("..2026_02", "mark-number-0002");
    wait_for_mark(&runner, "mark-number-0002");
}

/// As [`wait_for_mark`], where errors may come before.
#[track_caller]
fn wait_until_marked(runner: &Runner, mark: &str) {
    let mut gateway = runner.gateway();
    wait::until(&format!("`{mark}` serves"), || {
        (gateway.get(&MARK) == marked(mark)).then_some(())
    });
}

#[test]
fn a_folder_that_comes_late_or_is_replaced_is_seen() {
    let setup = Setup::with(&[]);
    fs::remove_dir(setup.plugins()).unwrap();
    let runner = setup.start();
    assert_eq!(runner.gateway().get(&MARK), UNAVAILABLE);
    let fresh = |mark: &str| {
        let fresh = runner.setup().folder().join("fresh");
        fs::create_dir(&fresh).unwrap();
        fs::write(fresh.join("libmisbehaving.so"), artifacts::marked(mark)).unwrap();
        fresh
    };
    fs::rename(fresh("mark-number-0001"), runner.setup().plugins()).unwrap();
    wait_until_marked(&runner, "mark-number-0001");
    fs::rename(
        runner.setup().plugins(),
        runner.setup().folder().join("old"),
    )
    .unwrap();
    fs::rename(fresh("mark-number-0002"), runner.setup().plugins()).unwrap();
    wait_for_mark(&runner, "mark-number-0002");
}

#[test]
fn only_libraries_with_an_allowed_sum_serve() {
    let bytes = fs::read(artifacts::library("misbehaving")).unwrap();
    let sum = artifacts::sha256(&bytes);
    let other = "0".repeat(64);
    for (sum, expected) in [(sum, marked("mark-of-the-file")), (other, UNAVAILABLE)] {
        let config = format!("plugins:\n  allow: [\"{sum}\"]\n");
        let runner = Setup::with(&["misbehaving"]).config(&config).start();
        assert_eq!(runner.gateway().get(&MARK), expected, "{sum}");
    }
}

#[test]
fn a_folder_that_everybody_may_write_is_not_trusted_unless_the_configuration_says_so() {
    let trusting = "plugins:\n  allow_writable: true\n";
    for (config, expected) in [("", UNAVAILABLE), (trusting, marked("mark-of-the-file"))] {
        let setup = Setup::with(&["misbehaving"]).config(config);
        fs::set_permissions(setup.plugins(), fs::Permissions::from_mode(0o777)).unwrap();
        let runner = setup.start();
        assert_eq!(runner.gateway().get(&MARK), expected, "{config}");
        if config.is_empty() {
            runner.log().wait_for(&["allow_writable"]);
        }
    }
}
