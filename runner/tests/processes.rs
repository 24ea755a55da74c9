//! Supervisor and worker as real processes, with a stand-in for everything that runs plugin code.
//!
//! This binary is three things, by its first argument: `start` is the supervisor, `worker` the worker that it starts,
//! anything else the tests.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "clippy does not see that it is a test, for want of a harness"
)]

#[path = "processes/control.rs"]
mod control;
#[path = "processes/fake.rs"]
mod fake;
#[path = "processes/last_good.rs"]
mod last_good;
#[path = "processes/probes.rs"]
mod probes;
#[path = "processes/quarantine.rs"]
mod quarantine;
#[path = "processes/runner.rs"]
mod runner;

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fake::Library;
use runner::{Runner, conf, wait_for};
use rustix::process::Signal;

const TESTS: &[(&str, fn())] = &[
    (
        "libraries_serve_when_it_is_ready_and_third_party_code_is_not_root",
        libraries_serve_when_it_is_ready_and_third_party_code_is_not_root,
    ),
    (
        "a_changed_library_replaces_the_old_one_and_a_bad_one_does_not",
        a_changed_library_replaces_the_old_one_and_a_bad_one_does_not,
    ),
    (
        "a_library_that_crashes_the_worker_is_not_tried_again",
        a_library_that_crashes_the_worker_is_not_tried_again,
    ),
    (
        "a_dead_worker_is_replaced_with_its_libraries_confs_and_tokens",
        a_dead_worker_is_replaced_with_its_libraries_confs_and_tokens,
    ),
    (
        "a_restarted_runner_gives_the_same_token_again",
        a_restarted_runner_gives_the_same_token_again,
    ),
    (
        "asked_to_stop_it_finishes_calls_in_flight_and_the_backlog_and_leaves_nothing",
        asked_to_stop_it_finishes_calls_in_flight_and_the_backlog_and_leaves_nothing,
    ),
    (
        "a_stuck_call_does_not_hold_up_the_end",
        a_stuck_call_does_not_hold_up_the_end,
    ),
    (
        "the_worker_ends_when_the_supervisor_is_killed",
        the_worker_ends_when_the_supervisor_is_killed,
    ),
    (
        "the_end_of_a_gateway_ends_the_runner_and_that_of_a_shell_does_not",
        the_end_of_a_gateway_ends_the_runner_and_that_of_a_shell_does_not,
    ),
    (
        "with_hot_reload_off_only_a_start_or_a_signal_takes_libraries_up",
        with_hot_reload_off_only_a_start_or_a_signal_takes_libraries_up,
    ),
    (
        "a_rotated_log_file_is_opened_again",
        a_rotated_log_file_is_opened_again,
    ),
    (
        "what_third_party_code_prints_is_a_log_line",
        what_third_party_code_prints_is_a_log_line,
    ),
    (
        "without_a_state_folder_libraries_load_from_memory",
        without_a_state_folder_libraries_load_from_memory,
    ),
    (
        "one_process_does_it_all_for_debuggers",
        one_process_does_it_all_for_debuggers,
    ),
    (
        "a_library_that_never_loads_does_not_keep_calls_waiting_for_ever",
        a_library_that_never_loads_does_not_keep_calls_waiting_for_ever,
    ),
    (
        "what_crashes_or_exits_in_its_probe_never_reaches_the_worker",
        probes::what_crashes_or_exits_in_its_probe_never_reaches_the_worker,
    ),
    (
        "what_hangs_in_its_probe_is_ended_with_all_it_started_and_tried_again",
        probes::what_hangs_in_its_probe_is_ended_with_all_it_started_and_tried_again,
    ),
    (
        "a_library_is_tried_with_the_live_confs_that_name_it",
        probes::a_library_is_tried_with_the_live_confs_that_name_it,
    ),
    (
        "a_verdict_survives_a_restart",
        probes::a_verdict_survives_a_restart,
    ),
    (
        "a_hanging_probe_holds_up_neither_a_new_worker_nor_the_end",
        probes::a_hanging_probe_holds_up_neither_a_new_worker_nor_the_end,
    ),
    (
        "its_status_says_what_serves_and_what_does_not_and_why",
        control::its_status_says_what_serves_and_what_does_not_and_why,
    ),
    (
        "it_is_not_ready_before_it_serves",
        control::it_is_not_ready_before_it_serves,
    ),
    (
        "a_reload_is_answered_when_it_is_done",
        control::a_reload_is_answered_when_it_is_done,
    ),
    (
        "a_changed_configuration_is_taken_up_as_far_as_can_be",
        control::a_changed_configuration_is_taken_up_as_far_as_can_be,
    ),
    (
        "it_can_be_asked_without_a_state_folder_and_leaves_no_socket",
        control::it_can_be_asked_without_a_state_folder_and_leaves_no_socket,
    ),
    (
        "a_build_that_crashes_again_and_again_gives_way_to_the_one_before_it",
        quarantine::a_build_that_crashes_again_and_again_gives_way_to_the_one_before_it,
    ),
    (
        "a_quarantine_survives_a_restart_and_ends_when_it_is_released",
        quarantine::a_quarantine_survives_a_restart_and_ends_when_it_is_released,
    ),
    (
        "crashes_of_nobodys_code_quarantine_nobody",
        quarantine::crashes_of_nobodys_code_quarantine_nobody,
    ),
    (
        "at_a_start_with_a_bad_file_its_last_good_copy_serves",
        last_good::at_a_start_with_a_bad_file_its_last_good_copy_serves,
    ),
    (
        "a_copy_that_was_changed_does_not_serve_and_a_list_that_was_is_told",
        last_good::a_copy_that_was_changed_does_not_serve_and_a_list_that_was_is_told,
    ),
    (
        "what_was_removed_while_no_runner_ran_does_not_come_back",
        last_good::what_was_removed_while_no_runner_ran_does_not_come_back,
    ),
    (
        "the_build_before_a_quarantined_one_serves_after_a_restart_too",
        last_good::the_build_before_a_quarantined_one_serves_after_a_restart_too,
    ),
    (
        "a_build_is_rolled_back_until_it_is_released_also_over_a_restart",
        last_good::a_build_is_rolled_back_until_it_is_released_also_over_a_restart,
    ),
    (
        "a_build_is_quarantined_by_hand_with_and_without_one_before_it",
        last_good::a_build_is_quarantined_by_hand_with_and_without_one_before_it,
    ),
    (
        "without_a_state_folder_a_build_is_rolled_back_from_memory",
        last_good::without_a_state_folder_a_build_is_rolled_back_from_memory,
    ),
    (
        "a_state_folder_that_goes_while_it_runs_takes_nothing_with_it",
        last_good::a_state_folder_that_goes_while_it_runs_takes_nothing_with_it,
    ),
];

fn main() -> std::process::ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["start", options, config] => fake::start(options, config),
        ["worker"] => fake::worker(),
        ["probe"] => fake::probe(),
        ["--list", ..] => TESTS.iter().for_each(|(name, _)| println!("{name}: test")),
        filters => return run_tests(filters),
    }
    std::process::ExitCode::SUCCESS
}

fn run_tests(arguments: &[&str]) -> std::process::ExitCode {
    let filters: Vec<_> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let mut failed = 0;
    for (name, test) in TESTS {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(**filter)) {
            continue;
        }
        let passed = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u8::from(!passed);
    }
    std::process::ExitCode::from(failed)
}

fn libraries_serve_when_it_is_ready_and_third_party_code_is_not_root() {
    let runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::good("beta 1")),
    ]);
    runner.start();
    // Sent before it is ready: the connection waits.
    assert_eq!(runner.ask("plugins"), "alpha 1,beta 1");
    runner.wait_for_log("ready: 2 plugins");
    let root = rustix::process::geteuid().is_root();
    let uid = runner.ask("uid");
    assert_ne!(uid, "0", "plugin code runs as root");
    if root {
        assert_eq!(runner.ask("groups"), "");
        assert_eq!(runner.ask("oom"), "500");
    }
    assert_ne!(runner.ask("pid"), runner.pid().to_string());
}

fn a_changed_library_replaces_the_old_one_and_a_bad_one_does_not() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("a.so", Library::good("alpha 2"));
    wait_for("the new build", || runner.ask("plugins") == "alpha 2");
    runner.install("a.so", Library::refused("wrong ABI"));
    runner.wait_for_log("was not replaced");
    runner.wait_for_log("wrong ABI");
    runner.wait_for_log("alpha 2 (generation 2)");
    assert_eq!(runner.ask("plugins"), "alpha 2");
    runner.install_bytes("a.so", b"\x7fELF no more of it");
    runner.wait_for_log("is truncated");
    assert_eq!(runner.ask("plugins"), "alpha 2");
    runner.remove("a.so");
    wait_for("the removal", || runner.ask("plugins").is_empty());
}

fn a_library_that_crashes_the_worker_is_not_tried_again() {
    let runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::crashing()),
    ]);
    runner.start();
    runner.wait_for_log("b.so was not loaded");
    runner.wait_for_log("ready: 1 plugin");
    assert_eq!(runner.ask("plugins"), "alpha 1");
    let worker = runner.ask("pid");
    runner.install("c.so", Library::good("gamma 1"));
    wait_for("the next library", || {
        runner.ask("plugins") == "alpha 1,gamma 1"
    });
    assert_eq!(runner.ask("pid"), worker);
}

fn a_dead_worker_is_replaced_with_its_libraries_confs_and_tokens() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    let token = runner.ask(&format!("assign {}", conf("route#1")));
    assert_ne!(token, "0");
    let first = runner.ask("pid");
    for _ in 0..3 {
        runner.crash();
        assert_eq!(runner.ask("plugins"), "alpha 1");
        assert_eq!(runner.ask("confs"), token);
        assert_ne!(runner.ask("pid"), first);
    }
    assert_eq!(runner.ask(&format!("assign {}", conf("route#1"))), token);
    assert_ne!(runner.ask(&format!("assign {}", conf("route#2"))), token);
    runner.ask(&format!("forget {token}"));
    runner.crash();
    wait_for("the confs", || !runner.ask("confs").contains(&token));
}

fn a_restarted_runner_gives_the_same_token_again() {
    let runner = Runner::with(&[]);
    runner.start();
    let token = runner.ask(&format!("assign {}", conf("route#1")));
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
    runner.start();
    assert_eq!(runner.ask("confs"), "");
    assert_eq!(runner.ask(&format!("assign {}", conf("route#1"))), token);
}

fn asked_to_stop_it_finishes_calls_in_flight_and_the_backlog_and_leaves_nothing() {
    let runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.start();
    let worker: i32 = runner.ask("pid").parse().unwrap();
    let slow = runner.send("slow");
    // The one before it may still be on its way out.
    wait_for("nothing but it", || runner.ask("in flight") == "2");
    let waiting: Vec<UnixStream> = (0..20).map(|_| runner.send("plugins")).collect();
    let started = Instant::now();
    runner.signal(Signal::TERM);
    assert_eq!(runner::answer(slow), "done");
    for connection in waiting {
        assert_eq!(runner::answer(connection), "alpha 1");
    }
    runner.wait_until_gone();
    assert!(
        started.elapsed() < Duration::from_millis(800),
        "{:?}",
        started.elapsed()
    );
    assert!(!runner.socket().exists());
    assert!(!runner::is_alive(worker));
    assert_eq!(runner.copies(), 0);
}

fn a_stuck_call_does_not_hold_up_the_end() {
    let runner = Runner::with(&[]);
    runner.start();
    let _stuck = runner.send("stuck");
    // The one before it may still be on its way out.
    wait_for("nothing but it", || runner.ask("in flight") == "2");
    let worker: i32 = runner.ask("pid").parse().unwrap();
    let started = Instant::now();
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
    assert!(
        started.elapsed() < Duration::from_millis(800),
        "{:?}",
        started.elapsed()
    );
    assert!(!runner::is_alive(worker));
}

fn the_worker_ends_when_the_supervisor_is_killed() {
    let runner = Runner::with(&[]);
    runner.start();
    let _stuck = runner.send("stuck");
    let worker: i32 = runner.ask("pid").parse().unwrap();
    runner.signal(Signal::KILL);
    wait_for("the worker's end", || !runner::is_alive(worker));
}

fn the_end_of_a_gateway_ends_the_runner_and_that_of_a_shell_does_not() {
    for (parent, options, ends) in [
        ("nginx", "", true),
        ("openresty", "", true),
        ("sh", "exit_with_parent", true),
        ("sh", "", false),
    ] {
        let mut runner = Runner::with(&[]);
        runner.options = options;
        runner.start_as_child_of(parent);
        let supervisor: i32 = runner.ask("supervisor").parse().unwrap();
        runner.signal(Signal::KILL); // the parent
        if ends {
            wait_for("its end", || !runner::is_alive(supervisor));
            assert!(!runner.socket().exists());
            continue;
        }
        let parent = runner.pid() as i32;
        wait_for("the end of its parent", || !runner::is_alive(parent));
        assert_eq!(runner.ask("supervisor"), supervisor.to_string());
        runner::end(supervisor);
    }
}

fn with_hot_reload_off_only_a_start_or_a_signal_takes_libraries_up() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.plugins.hot_reload = false;
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("a.so", Library::good("alpha 2"));
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.signal(Signal::HUP);
    wait_for("the new build", || runner.ask("plugins") == "alpha 2");
}

fn a_rotated_log_file_is_opened_again() {
    let mut runner = Runner::with(&[]);
    let log = runner.socket().with_file_name("log");
    runner.config.logging.file = Some(log.clone());
    runner.start();
    let rotated = log.with_extension("1");
    std::fs::rename(&log, &rotated).unwrap();
    runner.signal(Signal::USR1);
    wait_for("the new file", || log.exists());
    runner.ask("log");
    wait_for("the line", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("an event of the worker"))
    });
}

fn what_third_party_code_prints_is_a_log_line() {
    let runner = Runner::with(&[]);
    runner.start();
    runner.ask("print");
    runner.wait_for_log("plugin output: hello from a plugin");
    runner.ask("log");
    runner.wait_for_log("an event of the worker");
}

fn without_a_state_folder_libraries_load_from_memory() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.config.state.dir = None;
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.install("a.so", Library::good("alpha 2"));
    runner.wait_for_log("alpha 2 serves");
    runner.crash();
    assert_eq!(runner.ask("plugins"), "alpha 2");
}

fn one_process_does_it_all_for_debuggers() {
    let mut runner = Runner::with(&[("a.so", Library::good("alpha 1"))]);
    runner.options = "no_supervisor";
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    assert_eq!(runner.ask("pid"), runner.pid().to_string());
    let token = runner.ask(&format!("assign {}", conf("route#1")));
    assert_ne!(token, "0");
    runner.signal(Signal::TERM);
    runner.wait_until_gone();
    assert!(!runner.socket().exists());
}

fn a_library_that_never_loads_does_not_keep_calls_waiting_for_ever() {
    let mut runner = Runner::with(&[
        ("a.so", Library::good("alpha 1")),
        ("b.so", Library::hanging()),
    ]);
    runner.config.plugins.load_deadline = Duration::from_secs(2);
    runner.start();
    assert_eq!(runner.ask("plugins"), "alpha 1");
    runner.wait_for_log("serving starts while libraries are still being loaded");
}
