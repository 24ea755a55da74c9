//! Many calls of a plugin that sleeps, and one connection to a quick plugin of another route beside them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::gateway::frame;
use e2e::message::{HTTP_REQ_CALL, Request};
use tempfile::TempDir;

use super::{Finding, Setup, percentile};
use crate::load::{self, Load};
use crate::server::{self, Server};

/// Connections to the plugin that sleeps.
const SLEEPERS: usize = 64;

/// How long it sleeps. It goes on then, and does not answer: the call is answered with a rewrite that changes nothing.
const CONF: &str = r#"{"mode": "sleep", "ms": 100}"#;

/// Measures a plugin that does not say that it blocks, and one that does.
///
/// # Errors
/// A call is answered wrongly.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let (no, yes) = (br#""blocking":false"#, br#""blocking":true "#);
    let declared = setup.patched("misbehaving", no, yes)?;
    let undeclared = std::fs::read(setup.library("misbehaving"))?;
    [("undeclared", undeclared), ("declared", declared)]
        .into_iter()
        .map(|(name, library)| measure_one(setup, name, &library))
        .collect()
}

fn measure_one(setup: &Setup<'_>, name: &str, sleeper: &[u8]) -> Result<Finding> {
    let folder = folder_of(setup, sleeper)?;
    let server = Server::runner(setup.runner, folder.path(), &[], &[])?;
    super::starts::first_answer(&server)?;
    let socket = server.socket();
    let quick = [("bench-headers".to_owned(), "{}".to_owned())];
    let quick = server::runner_calls(&socket, &quick, "x-bench")?;
    let token = load::prepare(&socket, &[("misbehaving".to_owned(), CONF.to_owned())])?;
    let time = Duration::from_secs_f64(setup.seconds.max(1.0));
    let mut load = Load::new(&socket, std::slice::from_ref(&quick), 1)?;
    // The quick plugin finds its place first, as it would have on a gateway that runs.
    load.run(time / 2, usize::MAX)?;
    let mut quiet = load.run(time, usize::MAX)?.latencies;
    let stop = AtomicBool::new(false);
    let (mut first, mut moved, slept) = thread::scope(|scope| -> Result<_> {
        let sleepers: Vec<_> = (0..SLEEPERS)
            .map(|_| scope.spawn(|| sleep_on(&socket, token, &stop)))
            .collect();
        let measured = load
            .run(time, usize::MAX)
            .and_then(|first| Ok((first.latencies, load.run(time, usize::MAX)?.latencies)));
        stop.store(true, Ordering::Relaxed);
        let slept = sleepers.into_iter().map(|each| {
            each.join()
                .map_err(|_| anyhow::anyhow!("a sleeper panicked"))?
        });
        let slept = slept.sum::<Result<usize>>()?;
        let (first, moved) = measured?;
        Ok((first, moved, slept))
    })?;
    let quiet = percentile(&mut quiet, 0.99);
    let later = percentile(&mut moved, 0.99);
    let name = format!("{SLEEPERS} conn. that sleep 100 ms, {name}");
    Ok(Finding::new(name)
        .with("quick p99 quiet, us", quiet)
        .with("from the first call, us", percentile(&mut first, 0.99))
        .at_most("from the first call, us", 10_000.0)
        .with("longest, us", percentile(&mut first, 1.0))
        .with("later, us", later)
        .with("later against quiet", later / quiet)
        .at_most("later against quiet", 3.0)
        .with("calls that slept", slept as f64))
}

fn folder_of(setup: &Setup<'_>, sleeper: &[u8]) -> Result<TempDir> {
    let folder = server::folder()?;
    std::fs::write(folder.path().join("libmisbehaving.so"), sleeper)?;
    let quick = setup.library("bench-headers");
    std::fs::copy(&quick, folder.path().join("libbench_headers.so"))
        .with_context(|| quick.display().to_string())?;
    Ok(folder)
}

/// Calls until told to stop; returns how often.
fn sleep_on(socket: &Path, token: u32, stop: &AtomicBool) -> Result<usize> {
    let mut stream = load::connect(socket)?;
    let call = frame(HTTP_REQ_CALL, &Request::get("/slow").payload(token));
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = load::ask(&mut stream, &call)?;
        anyhow::ensure!(answer[0] == HTTP_REQ_CALL, "a sleeper failed");
        calls += 1;
    }
    Ok(calls)
}
