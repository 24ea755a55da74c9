//! What people ask of a running runner, and what it answers.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use plugin_runner::config::Level;
use plugin_runner::supervise::admin::client;
use plugin_runner::supervise::admin::message::{Answer, Request, Status};
use plugin_runner::supervise::admin::place;
use rustix::process::Signal;

use crate::fake::Library;
use crate::runner::{Runner, conf, wait_for};

fn ask(runner: &Runner, request: &Request) -> Answer {
    let pid = runner.pid();
    wait_for("its control socket", || {
        let found = place::find(&runner.config);
        found.iter().any(|found| found.pid == pid)
    });
    client::ask(&runner.config, Some(pid), request).unwrap()
}

pub(crate) fn status(runner: &Runner) -> Status {
    match ask(runner, &Request::Status) {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn done(runner: &Runner, request: &Request, text: &str) {
    let answer = ask(runner, request);
    let done = matches!(&answer, Answer::Done { lines } if lines.join(" ").contains(text));
    assert!(done, "{answer:?}");
}

#[track_caller]
pub(crate) fn failed(runner: &Runner, request: &Request, text: &str) {
    let answer = ask(runner, request);
    let failed = matches!(&answer, Answer::Failed { lines } if lines.join(" ").contains(text));
    assert!(failed, "{answer:?}");
}

/// Whether it went well, and what it said.
fn reload(runner: &Runner, plugin: Option<&str>) -> (bool, String) {
    let plugin = plugin.map(str::to_owned);
    match ask(runner, &Request::Reload { plugin }) {
        Answer::Done { lines } => (true, lines.join("\n")),
        Answer::Failed { lines } => (false, lines.join("\n")),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn says(answer: &(bool, String), went_well: bool, text: &str) {
    assert_eq!(answer.0, went_well, "{answer:?}");
    assert!(answer.1.contains(text), "{answer:?}");
}

pub(crate) fn its_status_says_what_serves_and_what_does_not_and_why() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    runner.ask(&format!("assign {}", conf("route#1")));
    let before = status(&runner);
    assert!(before.ready);
    assert_eq!(before.runner.pid, runner.pid());
    assert_eq!(before.runner.socket, runner.socket());
    assert_eq!(before.tokens.live, 1);
    let worker = before.worker.unwrap();
    assert_eq!(worker.pid.to_string(), runner.ask("pid"));
    assert!(worker.serving && worker.answers);
    assert!(worker.memory_bytes.unwrap() > 1 << 20);
    let [alpha] = before.plugins.as_slice() else {
        panic!("{:?}", before.plugins)
    };
    assert_eq!(
        (alpha.name.as_str(), alpha.version.as_str()),
        ("alpha", "1")
    );
    assert_eq!((alpha.generation, alpha.sha256.len()), (1, 64));
    assert_eq!(before.libraries[0].state, "serving");

    runner.install("a.so", Library::bad_in_probe("abort", "open", "alpha 2"));
    runner.wait_for_log("a.so was not replaced");
    let after = status(&runner);
    assert_eq!(after.plugins, before.plugins, "unchanged");
    let file = &after.libraries[0];
    assert_eq!((file.state.as_str(), file.generation), ("refused", Some(1)));
    assert!(file.cause.as_ref().unwrap().contains("SIGABRT"));

    runner.crash();
    wait_for("a new worker", || status(&runner).ready);
    assert_eq!(status(&runner).worker.unwrap().number, 2);
    assert_eq!(status(&runner).plugins[0].loaded_at, alpha.loaded_at);
}

pub(crate) fn it_is_not_ready_before_it_serves() {
    let mut runner = Runner::with(&[("a.so", Library::hanging())]);
    runner.config.plugins.load_deadline = Duration::from_secs(3600);
    runner.start();
    wait_for("the load", || {
        let status = status(&runner);
        assert!(!status.ready);
        let libraries = status.libraries;
        libraries.iter().any(|file| file.state == "loading")
    });
}

pub(crate) fn a_reload_is_answered_when_it_is_done() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    says(&reload(&runner, None), true, "nothing has changed");
    runner.install("a.so", Library::good("alpha 2"));
    says(&reload(&runner, None), true, "alpha 2 serves: generation 2");
    assert_eq!(runner.ask("plugins"), "alpha 2");
    says(
        &reload(&runner, Some("alpha")),
        true,
        "alpha 2 serves: generation 3",
    );
    runner.install("a.so", Library::refused("wrong ABI"));
    says(
        &reload(&runner, None),
        false,
        "a.so was not replaced: wrong ABI",
    );
    says(
        &reload(&runner, Some("alpha")),
        false,
        "a.so was not replaced: wrong ABI",
    );
    says(
        &reload(&runner, Some("beta")),
        false,
        "offers plugin `beta`",
    );
    runner.install("b.so", Library::bad_in_probe("abort", "open", "beta 1"));
    says(
        &reload(&runner, None),
        false,
        "b.so was not loaded: it ended its probe",
    );
    says(&reload(&runner, None), true, "nothing has changed");
    says(
        &reload(&runner, Some("b.so")),
        false,
        "b.so was not loaded: it ended its probe",
    );
    assert_eq!(runner.ask("plugins"), "alpha 2");
}

pub(crate) fn a_changed_configuration_is_taken_up_as_far_as_can_be() {
    let mut runner = Runner::with(&[]);
    let file = runner.socket().with_file_name("config.yaml");
    let write = |more: &str| {
        let config = &runner.config;
        let (socket, plugins) = (&config.socket.file, config.plugins.dir.as_ref().unwrap());
        let state = config.state.dir.as_ref().unwrap();
        let text = format!(
            "socket: {{file: {}}}\nplugins: {{dir: {}}}\nstate: {{dir: {}}}\n{more}",
            socket.display(),
            plugins.display(),
            state.display()
        );
        std::fs::write(&file, text).unwrap();
    };
    write("");
    let config = Some(file.clone());
    runner.config.file = config;
    runner.start();
    let level = Level::Debug;
    ask(&runner, &Request::LogLevel { level });
    assert_eq!(status(&runner).runner.log_level, Level::Debug);
    runner.ask("log");
    runner.wait_for_log("an event of the worker");
    std::fs::write(&file, "no: such key").unwrap();
    says(&reload(&runner, None), false, "unknown key `no`");
    assert_eq!(status(&runner).runner.log_level, Level::Debug);
}

pub(crate) fn it_can_be_asked_without_a_state_folder_and_leaves_no_socket() {
    let mut runner = Runner::with(&[]);
    for state in [runner.config.state.dir.clone(), None] {
        runner.config.state.dir = state;
        runner.start();
        wait_for("it to be ready", || status(&runner).ready);
        let [found] = place::find(&runner.config).try_into().unwrap();
        let mode = std::fs::metadata(&found.path).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        runner.signal(Signal::TERM);
        runner.wait_until_gone();
        assert!(!found.path.exists());
    }
}
