//! Calls while their plugin is replaced again and again.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::{Finding, Setup, percentile};
use crate::load::Load;
use crate::server::{self, Server};

/// Between two swaps.
const PERIOD: Duration = Duration::from_millis(500);

/// Connections.
const CONNECTIONS: usize = 32;

/// Measures quiet and swapping in turns.
///
/// # Errors
/// A call fails or is answered wrongly, at any time.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let folder = server::folder()?;
    let library = folder.path().join("libbench_headers.so");
    let mut bytes = fs::read(setup.library("bench-headers"))?;
    fs::write(&library, &bytes)?;
    let server = Server::runner(setup.runner, folder.path(), &[], &[])?;
    super::starts::first_answer(&server)?;
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    let calls = server::runner_calls(&server.socket(), &conf, "x-bench")?;
    let mut load = Load::new(&server.socket(), std::slice::from_ref(&calls), CONNECTIONS)?;
    let time = Duration::from_secs_f64(setup.seconds.max(1.0));
    load.run(time, usize::MAX)?;
    let (mut quiet, mut busy) = (Vec::new(), Vec::new());
    let (mut swaps, mut rates) = (0, [0.0; 2]);
    for _ in 0..setup.rounds.max(1) {
        let counted = load.run(time, usize::MAX)?;
        rates[0] += counted.calls as f64 / counted.time.as_secs_f64();
        quiet.extend(counted.latencies);
        let stop = AtomicBool::new(false);
        let counted = thread::scope(|scope| {
            let swapping = scope.spawn(|| -> Result<usize> {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    // One byte behind the end: another build for all who look.
                    bytes.push(0);
                    let fresh = folder.path().join("fresh");
                    fs::write(&fresh, &bytes)?;
                    fs::rename(&fresh, &library)?;
                    count += 1;
                    thread::park_timeout(PERIOD);
                }
                Ok(count)
            });
            let counted = load.run(time.max(PERIOD * 4), usize::MAX);
            stop.store(true, Ordering::Relaxed);
            let swapped = swapping.join();
            swaps += swapped.map_err(|_| anyhow::anyhow!("the swapper panicked"))??;
            counted
        })?;
        rates[1] += counted.calls as f64 / counted.time.as_secs_f64();
        busy.extend(counted.latencies);
    }
    let (quiet, busy) = (percentile(&mut quiet, 0.99), percentile(&mut busy, 0.99));
    Ok(vec![
        Finding::new(format!("{CONNECTIONS} conn., a swap every 500 ms"))
            .with("p99 quiet, us", quiet)
            .with("p99 swapping, us", busy)
            .with("p99 ratio", busy / quiet)
            .at_most("p99 ratio", 1.5)
            .with("calls/s ratio", rates[1] / rates[0])
            .with("swaps", swaps as f64)
            .with("failures", 0.0),
    ])
}
