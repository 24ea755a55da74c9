//! What has served serves again, where a file is bad at a start or somebody decides so.

use std::fs;
use std::path::PathBuf;

use plugin_runner::supervise::admin::message::Request;
use rustix::process::Signal;

use crate::control::{done, failed, status};
use crate::fake::Library;
use crate::runner::{Runner, wait_for};

/// One that has served these builds, one after the other, and has ended.
fn after_serving(builds: &[&str]) -> Runner {
    let runner = Runner::with(&[("b.so", Library::good("beta 1"))]);
    runner.start();
    for build in builds {
        runner.install("a.so", Library::good(build));
        let wanted = format!("{build},beta 1");
        wait_for(&wanted, || runner.ask("plugins") == wanted);
        let copies = || fs::read_to_string(runner.state().join("good/index"));
        wait_for("its copy", || {
            copies().is_ok_and(|index| index.contains(build))
        });
    }
    stop(&runner);
    runner
}

fn stop(runner: &Runner) {
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
}

/// The copies of files that are not in `state.dir/good/index` last.
fn copies(runner: &Runner) -> Vec<PathBuf> {
    let entries = fs::read_dir(runner.state().join("good")).unwrap();
    let mut copies: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    copies.retain(|file| !file.ends_with("index"));
    copies
}

pub(crate) fn at_a_start_with_a_bad_file_its_last_good_copy_serves() {
    let aborts = Library::bad_in_probe("abort", "open", "alpha 2").bytes();
    let refused = Library::refused("wrong ABI").bytes();
    let cut = b"\x7fELF no more of it".to_vec();
    for (bad, cause) in [
        (aborts, "it ended its probe"),
        (refused, "wrong ABI"),
        (cut, "is truncated"),
    ] {
        let runner = after_serving(&["alpha 1"]);
        runner.install_bytes("a.so", &bad);
        runner.start();
        assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
        runner.wait_for_log("a.so was not loaded");
        runner.wait_for_log(cause);
        runner.wait_for_log("alpha 1 serves from its last good copy");
        let status = status(&runner);
        let file = &status.libraries[0];
        assert!(file.last_good && file.last_good_served_at.is_some());
        assert_eq!(
            (file.state.as_str(), file.cause.is_some()),
            ("refused", true)
        );
        assert!(status.plugins[0].last_good && !status.plugins[1].last_good);
        runner.crash();
        assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
        runner.install("a.so", Library::good("alpha 3"));
        wait_for("a good file", || runner.ask("plugins") == "alpha 3,beta 1");
    }
}

pub(crate) fn a_copy_that_was_changed_does_not_serve_and_a_list_that_was_is_told() {
    let runner = after_serving(&["alpha 1"]);
    for copy in copies(&runner) {
        let mut bytes = fs::read(&copy).unwrap();
        bytes[5000] ^= 1;
        fs::write(copy, bytes).unwrap();
    }
    runner.install_bytes("a.so", b"\x7fELF no more of it");
    runner.start();
    assert_eq!(runner.ask("plugins"), "beta 1");
    runner.wait_for_log("a.so cannot be used");
    runner.wait_for_log("its content has changed");
    stop(&runner);
    fs::write(runner.state().join("good/index"), "{").unwrap();
    runner.start();
    assert_eq!(runner.ask("plugins"), "beta 1");
    runner.wait_for_log("good/index cannot be read: there are no last good copies for now");
}

pub(crate) fn what_was_removed_while_no_runner_ran_does_not_come_back() {
    let runner = after_serving(&["alpha 1"]);
    runner.remove("a.so");
    runner.start();
    assert_eq!(runner.ask("plugins"), "beta 1");
    runner.remove("b.so");
    wait_for("the removal", || runner.ask("plugins").is_empty());
    wait_for("the end of its copy", || copies(&runner).is_empty());
}

pub(crate) fn the_build_before_a_quarantined_one_serves_after_a_restart_too() {
    let mut runner = after_serving(&["alpha 1", "alpha 2"]);
    runner.config.plugins.quarantine_crashes = 1;
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    runner.crash_in("alpha");
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    stop(&runner);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    assert_eq!(status(&runner).libraries[0].state, "quarantined");
    runner.install("a.so", Library::good("alpha 3"));
    wait_for("a new build", || runner.ask("plugins") == "alpha 3,beta 1");
}

fn by_hand(what: fn(String) -> Request) -> Request {
    what("alpha".to_owned())
}

pub(crate) fn a_build_is_rolled_back_until_it_is_released_also_over_a_restart() {
    let rollback = || by_hand(|plugin| Request::RollBack { plugin });
    let release = || by_hand(|plugin| Request::Release { plugin });
    let runner = after_serving(&["alpha 1", "alpha 2"]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    let worker = runner.ask("pid");
    done(
        &runner,
        &rollback(),
        "alpha 1 serves from its last good copy",
    );
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    failed(&runner, &rollback(), "there is no earlier build of");
    assert_eq!(runner.ask("pid"), worker);
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    stop(&runner);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    done(&runner, &release(), "alpha 2 serves");
    assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    failed(
        &runner,
        &release(),
        "nothing of plugin `alpha` is quarantined",
    );
    done(&runner, &rollback(), "alpha 1 serves");
    runner.install("a.so", Library::good("alpha 3"));
    wait_for("a new build", || runner.ask("plugins") == "alpha 3,beta 1");
}

pub(crate) fn a_build_is_quarantined_by_hand_with_and_without_one_before_it() {
    let quarantine = || by_hand(|plugin| Request::Quarantine { plugin });
    let runner = after_serving(&["alpha 1", "alpha 2"]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    done(&runner, &quarantine(), "alpha 1 serves");
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    done(&runner, &quarantine(), "what it offered ends");
    wait_for("its end", || runner.ask("plugins") == "beta 1");
    runner.crash();
    assert_eq!(runner.ask("plugins"), "beta 1");
    stop(&runner);
    runner.start();
    assert_eq!(runner.ask("plugins"), "beta 1");
    let plugin = "alhpa".to_owned();
    failed(
        &runner,
        &Request::Release { plugin },
        "did you mean `alpha`?",
    );
    let plugin = "alpha".to_owned();
    done(&runner, &Request::Release { plugin }, "alpha 2 serves");
    assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    for plugin in ["bta", "b.os"].map(str::to_owned) {
        failed(&runner, &Request::RollBack { plugin }, "did you mean `b");
    }
}

pub(crate) fn without_a_state_folder_a_build_is_rolled_back_from_memory() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.state.dir = None;
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("a.so", Library::good("alpha 2"));
    wait_for("the next", || runner.ask("plugins") == "alpha 2");
    let rollback = by_hand(|plugin| Request::RollBack { plugin });
    done(&runner, &rollback, "alpha 1 serves");
    assert_eq!(runner.ask("plugins"), "alpha 1");
}

pub(crate) fn a_state_folder_that_goes_while_it_runs_takes_nothing_with_it() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    let token = runner.ask(&format!("assign {}", crate::runner::conf("route#1")));
    fs::remove_dir_all(runner.state()).unwrap();
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    assert_eq!(runner.ask("confs"), token);
    runner.install("a.so", Library::good("alpha 2"));
    wait_for("the next", || runner.ask("plugins") == "alpha 2");
    runner.wait_for_log("is kept in memory");
    runner.wait_for_log("is not kept for a later start");
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 2");
    runner.ask(&format!("assign {}", crate::runner::conf("route#2")));
}
