//! A short run, as part of every test run.

use std::path::PathBuf;
use std::time::Duration;

use e2e::artifacts;
use torture::builds::{Builds, Special};
use torture::report::recovery;
use torture::runner::{PLUGINS, Runner};
use torture::torment::{Plan, Torment};

fn libraries() -> Vec<PathBuf> {
    PLUGINS.into_iter().map(artifacts::library).collect()
}

#[test]
fn a_hundred_swaps_and_twenty_crashes_break_no_promise() {
    let special = Special::build(&[]).unwrap();
    let builds = Builds::read(&artifacts::library("misbehaving"), &special).unwrap();
    let plan = Plan {
        swaps: 100,
        crashes: 20,
        recycles: 10,
        // Half of it on a quiet machine.
        at_most: Some(Duration::from_secs(50)),
        calm: Duration::from_millis(500),
        connections: 32,
        pause: Duration::from_millis(10),
        seed: 7,
    };
    let folder = Runner::folder(&libraries()).unwrap();
    let runner = Runner::start(artifacts::runner(), folder).unwrap();
    let torment = Torment::start(runner, builds, plan).unwrap();
    let summary = torment.run(None, |line| println!("{line}")).unwrap();
    println!("{}", summary.table());
    let faults = summary.faults();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(summary.counts.calls > 1_000);
    // 50 and 150 ms on a quiet machine, with optimisations; the tests run beside each other.
    let recovery = recovery(&summary.counts.recoveries).unwrap();
    assert!(
        recovery.median < 1_500.0 && recovery.p95 < 4_000.0,
        "{recovery:?}"
    );
}
