//! A build that crashes the worker again and again is not loaded any more; everybody else is served.

use plugin_runner::supervise::admin::client;
use plugin_runner::supervise::admin::message::{Answer, Request};
use rustix::process::Signal;

use crate::fake::Library;
use crate::runner::{Runner, wait_for};

pub(crate) fn a_build_that_crashes_again_and_again_gives_way_to_the_one_before_it() {
    let runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::good("beta 1")),
    ]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    runner.install("a.so", Library::good("alpha 2"));
    runner.wait_for_log("alpha 2 serves");
    for _ in 0..2 {
        runner.crash_in("alpha");
        assert_eq!(runner.ask("plugins"), "alpha 2,beta 1");
    }
    runner.wait_for_log("plugin alpha crashed and ended the worker");
    runner.crash_in("alpha");
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    runner.wait_for_log("a.so is not loaded any more");
    runner.wait_for_log("it ended the worker 3 times within 60s");
    for _ in 0..3 {
        assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
        runner.crash_in("alpha");
    }
    assert_eq!(runner.ask("plugins"), "beta 1", "nor is the one before it");
    runner.install("a.so", Library::good("alpha 3"));
    wait_for("a corrected build", || {
        runner.ask("plugins") == "alpha 3,beta 1"
    });
}

pub(crate) fn a_quarantine_survives_a_restart_and_ends_when_it_is_released() {
    let mut runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::good("beta 1")),
    ]);
    runner.config.plugins.quarantine_crashes = 1;
    runner.start();
    runner.crash_in("alpha");
    assert_eq!(runner.ask("plugins"), "beta 1");
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
    runner.start();
    assert_eq!(runner.ask("plugins"), "beta 1");
    runner.wait_for_log("it ended the worker 1 time within 60s: it is quarantined");
    let plugin = "alpha".to_owned();
    let answer = client::ask(&runner.config, None, &Request::Release { plugin });
    assert!(matches!(answer, Ok(Answer::Done { .. })), "{answer:?}");
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
}

pub(crate) fn crashes_of_nobodys_code_quarantine_nobody() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.plugins.quarantine_crashes = 1;
    runner.start();
    for _ in 0..3 {
        runner.crash();
        assert_eq!(runner.ask("plugins"), "alpha 1");
    }
}
