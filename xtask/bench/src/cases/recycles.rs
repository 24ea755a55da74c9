//! Calls while a new worker takes over from the old one, again and again.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Finding, Setup, percentile, starts};
use crate::load::Load;
use crate::rounds::median;
use crate::server::{self, Server};

/// Connections.
const CONNECTIONS: usize = 32;

/// From the end of one recycle to the next one.
const PERIOD: Duration = Duration::from_millis(500);

/// Measures quiet and recycling in turns.
///
/// # Errors
/// A call fails or is answered wrongly at any time, a connection is closed, or a recycle fails.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let plugins = setup.ten()?;
    let server = Server::runner(setup.runner, plugins.path(), &[], &[])?;
    starts::first_answer(&server)?;
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    let calls = server::runner_calls(&server.socket(), &conf, "x-bench")?;
    let mut load = Load::new(&server.socket(), std::slice::from_ref(&calls), CONNECTIONS)?;
    let time = Duration::from_secs_f64(setup.seconds.max(1.0));
    load.run(time, usize::MAX)?;
    let (mut quiet, mut busy, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setup.rounds {
        quiet.extend(load.run(time, usize::MAX)?.latencies);
        let stop = AtomicBool::new(false);
        let counted = thread::scope(|scope| {
            let recycling = scope.spawn(|| recycle_until(setup, &server, &stop));
            let counted = load.run(time.max(PERIOD * 4), usize::MAX);
            stop.store(true, Ordering::Relaxed);
            let times = recycling.join();
            took.extend(times.map_err(|_| anyhow::anyhow!("the recycler panicked"))??);
            counted
        })?;
        busy.extend(counted.latencies);
    }
    ensure!(!took.is_empty(), "no recycle ended");
    Ok(vec![finding(&mut quiet, &mut busy, took)])
}

fn finding(quiet: &mut [u32], busy: &mut [u32], took: Vec<f64>) -> Finding {
    let longest = percentile(busy, 1.0);
    let (quiet, busy) = (percentile(quiet, 0.99), percentile(busy, 0.99));
    let name = format!("{CONNECTIONS} conn., a recycle 500 ms after the last one");
    Finding::new(name)
        .with("p99 quiet, us", quiet)
        .with("p99 recycling, us", busy)
        .with("p99 ratio", busy / quiet)
        .at_most("p99 ratio", 1.5)
        .with("longest, us", longest)
        .with("recycles", took.len() as f64)
        .with("a recycle, ms", median(took))
        .with("failures", 0.0)
}

/// Recycles again and again; how long each took, from the question until the old worker was gone, in milliseconds.
fn recycle_until(setup: &Setup<'_>, server: &Server, stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        recycle(setup, server)?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        thread::park_timeout(PERIOD);
    }
    Ok(took)
}

fn recycle(setup: &Setup<'_>, server: &Server) -> Result<()> {
    let mut command = Command::new(setup.runner);
    command.args(["reload", "--recycle", "--config"]);
    command.arg(server.file("config.yaml"));
    let output = command.output().context("reload --recycle")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the recycle failed: {said}");
    Ok(())
}
