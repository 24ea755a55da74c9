//! What a runner takes that does nothing, and what it takes under load.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Finding, Setup, starts};
use crate::load::Load;
use crate::process::{self, Memory};
use crate::server::{self, Server};

/// Connections of the load.
const CONNECTIONS: usize = 128;

/// A runner gives back what its start took when it has been quiet for two seconds.
const QUIET: Duration = Duration::from_secs(6);

/// Between two looks while calls run.
const LOOK: Duration = Duration::from_millis(20);

/// Measures supervisor and worker with ten libraries: idle, and during calls.
///
/// # Errors
/// A call is answered wrongly.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let folder = setup.ten()?;
    let server = Server::runner(setup.runner, folder.path(), &[], &[])?;
    starts::first_answer(&server)?;
    let start = process::memory(server.pid());
    wait(QUIET);
    let idle = process::memory(server.pid());
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    let calls = server::runner_calls(&server.socket(), &conf, "x-bench")?;
    let most = under_load(
        &server,
        &calls,
        Duration::from_secs_f64(setup.seconds.max(1.0)),
    )?;
    wait(QUIET);
    let after = process::memory(server.pid());
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let finding = |name: &str, memory: Memory| {
        Finding::new(name)
            .with("resident, MB", mega(memory.rss))
            .with("proportional, MB", mega(memory.pss))
            .with("private, MB", mega(memory.private))
            .with("of no file, MB", mega(memory.anonymous))
    };
    Ok(vec![
        finding("right after the start, 10 libraries", start),
        finding("idle", idle).at_most("resident, MB", 10.0),
        finding("128 connections, most", most).at_most("resident, MB", 13.0),
        finding("idle after that", after).with("most since the start, MB", mega(after.peak)),
    ])
}

fn under_load(server: &Server, calls: &crate::load::Calls, time: Duration) -> Result<Memory> {
    let mut load = Load::new(&server.socket(), std::slice::from_ref(calls), CONNECTIONS)?;
    std::thread::scope(|scope| {
        let running = scope.spawn(move || load.run(time, usize::MAX).map(drop));
        let mut most = Memory::default();
        while !running.is_finished() {
            let now = process::memory(server.pid());
            if now.rss > most.rss {
                most = now;
            }
            std::thread::park_timeout(LOOK);
        }
        let ended = running.join();
        ended.map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(most)
    })
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::thread::park_timeout(until.saturating_duration_since(Instant::now()));
    }
}
