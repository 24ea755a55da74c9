//! How long a runner takes from its start to its first answer: the first time, and when it knows the libraries.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Finding, Setup};
use crate::load;
use crate::rounds::median;
use crate::server::{self, Server};

/// Starts that are measured.
const TIMES: usize = 7;

/// A file that changed this recently may change once more without a difference in its times.
const CERTAIN: Duration = Duration::from_secs(1);

/// Starts the runner a few times.
///
/// # Errors
/// It does not answer.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let folder = setup.ten()?;
    // What was laid there a moment ago is read again by the next start.
    std::thread::park_timeout(CERTAIN);
    let (mut cold, mut cached) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let started = Instant::now();
        let mut server = Server::runner(setup.runner, folder.path(), &[], &[])?;
        first_answer(&server)?;
        cold.push(started.elapsed().as_secs_f64() * 1e3);
        server.end()?;
        let started = Instant::now();
        server.start_again()?;
        first_answer(&server)?;
        cached.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(vec![
        Finding::new("start to first answer, 10 libraries")
            .with("cold, ms", median(cold))
            .at_most("cold, ms", 150.0)
            .with("cached, ms", median(cached))
            .at_most("cached, ms", 30.0),
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
