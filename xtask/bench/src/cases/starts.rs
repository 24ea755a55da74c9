//! How long a runner takes from its start to its first answer: the first time, and when it knows the libraries.

use std::time::Instant;

use anyhow::Result;

use super::{Finding, Setup};
use crate::load;
use crate::rounds::median;
use crate::server::{self, Server};

/// Starts that are measured.
const TIMES: usize = 7;

/// Starts the runner a few times.
///
/// # Errors
/// It does not answer.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let libraries = std::fs::read_dir(setup.plugins)?.count();
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let started = Instant::now();
        let mut server = Server::runner(setup.runner, setup.plugins, &[], &[])?;
        first_answer(&server)?;
        cold.push(started.elapsed().as_secs_f64() * 1e3);
        server.end()?;
        let started = Instant::now();
        server.start_again()?;
        first_answer(&server)?;
        cached.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let name = format!("start to first answer, {libraries} libraries");
    Ok(vec![
        Finding::new(name)
            .with("cold, ms", median(cold))
            .with("cached, ms", median(cached)),
    ])
}

/// Waits for it.
///
/// # Errors
/// It does not come.
pub fn first_answer(server: &Server) -> Result<()> {
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    server.wait(|socket| {
        let calls = server::runner_calls(socket, &conf, "x-bench")?;
        load::one_call(socket, &calls).map(drop)
    })
}
