//! New libraries meet a process that may die of them before they meet the worker.

use std::time::Duration;

use rustix::process::Signal;

use crate::fake::Library;
use crate::runner::{Runner, conf, conf_of, is_alive, wait_for};

pub(crate) fn what_crashes_or_exits_in_its_probe_never_reaches_the_worker() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    let worker = runner.ask("pid");
    for (number, (what, step, said)) in [
        (
            "abort",
            "open",
            "(signal: 6 (SIGABRT)) while it was opened (in a constructor)",
        ),
        (
            "exit",
            "open",
            "(exit status: 0) while it was opened (in a constructor)",
        ),
        ("abort", "start", "(signal: 6 (SIGABRT)) in init_worker"),
        (
            "abort",
            "drop",
            "(signal: 6 (SIGABRT)) while its values were dropped",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("alpha 2.{number}");
        runner.install("a.so", Library::bad_in_probe(what, step, &name));
        runner.wait_for_log(said);
    }
    runner.wait_for_log("a.so was not replaced");
    runner.wait_for_log("alpha 1 (generation 1)");
    assert_eq!(runner.ask("plugins"), "alpha 1");
    assert_eq!(runner.ask("pid"), worker);
    runner.install("a.so", Library::good("alpha 3"));
    wait_for("the next build", || runner.ask("plugins") == "alpha 3");
}

pub(crate) fn what_hangs_in_its_probe_is_ended_with_all_it_started_and_tried_again() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.plugins.probe_deadline = Duration::from_millis(300);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("a.so", Library::bad_in_probe("hang", "start", "alpha 2"));
    runner.wait_for_log("it did not come back within 300ms in init_worker");
    runner.install("b.so", Library::bad_in_probe("daemon", "open", "beta 1"));
    let said = "plugin output: daemon ";
    runner.wait_for_log(said);
    let daemon = runner.number_after(said);
    runner.wait_for_log("b.so was not loaded");
    wait_for("the end of what it started", || !is_alive(daemon));
    // Meanwhile the first is tried again, and that is not worth another line.
    runner.install("c.so", Library::good("gamma 1"));
    wait_for("another", || runner.ask("plugins") == "alpha 1,gamma 1");
    assert_eq!(runner.logged("did not come back"), 1);
}

pub(crate) fn a_library_is_tried_with_the_live_confs_that_name_it() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    for (key, plugin, value) in [
        ("route#1", "alpha", "refuse"),
        ("route#2", "alpha", "abort"),
        ("route#3", "beta", "hang"),
    ] {
        runner.ask(&format!("assign {}", conf_of(key, plugin, value)));
    }
    runner.ask(&format!("assign {}", conf("route#4")));
    runner.install("a.so", Library::good("alpha 2"));
    wait_for("one that a conf does not suit", || {
        runner.ask("plugins") == "alpha 2"
    });
    runner.install("a.so", Library::good_but_for_confs("alpha 3"));
    runner.wait_for_log("(signal: 6 (SIGABRT)) while it configured the conf of route#2");
    assert_eq!(runner.ask("plugins"), "alpha 2");
}

pub(crate) fn a_verdict_survives_a_restart() {
    let runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::bad_in_probe("daemon", "start", "beta 1")),
    ]);
    for start in 1..=2 {
        runner.start();
        assert_eq!(runner.ask("plugins"), "alpha 1");
        runner.wait_for_log("b.so was not loaded");
        runner.wait_for_log("it ended its probe (signal: 6 (SIGABRT)) in init_worker");
        // What it printed comes on another way, and would be there by the end.
        runner.signal(Signal::TERM);
        runner.wait_until_gone();
        let probed = runner.logged("plugin output: daemon");
        assert_eq!(probed, usize::from(start == 1));
    }
}

pub(crate) fn a_hanging_probe_holds_up_neither_a_new_worker_nor_the_end() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.plugins.probe_deadline = Duration::from_secs(60);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("b.so", Library::bad_in_probe("hang", "open", "beta 1"));
    let probe = || runner.child_named("plugin-probe");
    wait_for("the probe", || probe().is_some());
    let probe = probe().unwrap();
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    assert!(is_alive(probe));
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
    wait_for("the end of the probe", || !is_alive(probe));
}
