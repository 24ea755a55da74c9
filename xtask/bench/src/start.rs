//! How long a runner takes from its start to its first answer.

use std::fmt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};

use crate::load;
use crate::rounds::median;
use crate::server::{self, Server};

/// Starts that are measured.
const TIMES: usize = 9;

/// What was measured, in milliseconds.
#[derive(Debug)]
pub struct Starts {
    libraries: usize,
    /// With a state folder that is new: nothing is known of the libraries.
    cold: f64,
}

impl Starts {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "libraries": self.libraries, "cold": self.cold })
    }
}

impl fmt::Display for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { libraries, cold } = self;
        write!(
            f,
            "start to first answer, {libraries} libraries: {cold:.1} ms"
        )
    }
}

/// Starts the runner a few times.
///
/// # Errors
/// It does not answer.
pub fn measure(runner: &Path, plugins: &Path, conf: &[(String, String)]) -> Result<Starts> {
    let mut cold = Vec::new();
    for _ in 0..TIMES {
        let started = Instant::now();
        let server = Server::runner(runner, plugins, &[], &[])?;
        server.wait(|socket| {
            let calls = server::runner_calls(socket, conf, "x-bench")?;
            load::one_call(socket, &calls)
        })?;
        cold.push(started.elapsed().as_secs_f64() * 1e3);
    }
    let libraries = std::fs::read_dir(plugins)?.count();
    Ok(Starts {
        libraries,
        cold: median(cold),
    })
}
