//! The form for a machine that others use, too: fails only on a real regression. What counts is the number of user
//! instructions of a call, which does not drift; the CPU ratio to the limit has a wide margin.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::load::{Calls, Load};
use crate::server::{self, Server};

/// User instructions of a call, at most: some more than there are today, as another compiler may need them. It goes down
/// with what is saved; the target is 3,000.
pub const INSTRUCTIONS: f64 = 6_100.0;

/// CPU of a call against the limit at 32 connections, at most. The target is 1.20; a machine with neighbours drifts.
pub const CPU_RATIO: f64 = 1.70;

/// Connections: enough that several calls wait at each turn of the loop.
const CONNECTIONS: usize = 32;
const CALLS: usize = 20_000;

/// User instructions of one call by callgrind, of the whole runner in one process; `None` where it is not installed.
/// Callgrind's own file goes to `keep`, for `callgrind_annotate`.
///
/// # Errors
/// The runner does not serve under it.
pub fn instructions(
    runner: &Path,
    plugins: &Path,
    conf: &[(String, String)],
    keep: Option<&Path>,
) -> Result<Option<f64>> {
    if !has("valgrind") || !has("callgrind_control") {
        return Ok(None);
    }
    let folder = tempfile::tempdir()?;
    let counts = folder.path().join("counts");
    let counts = keep.map_or(counts, Path::to_path_buf);
    let out = format!("--callgrind-out-file={}", counts.display());
    let wrapper = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--quiet",
        &out,
    ];
    let wrapper = wrapper.map(str::to_owned);
    let mut server = Server::runner(runner, plugins, &wrapper, &["--no-supervisor"])?;
    let calls = server.wait(|socket| server::runner_calls(socket, conf, "x-bench"))?;
    load(&server, &calls, 2_000)?;
    let pid = server.pid().to_string();
    control(&["--instr=on", &pid])?;
    load(&server, &calls, CALLS)?;
    control(&["--instr=off", &pid])?;
    server.end()?;
    let text = fs::read_to_string(&counts).context("callgrind left no counts")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = total.context("callgrind counted nothing")?.trim().parse()?;
    ensure!(total > 0.0, "callgrind counted no instructions");
    Ok(Some(total / CALLS as f64))
}

fn has(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn load(server: &Server, calls: &Calls, count: usize) -> Result<()> {
    let mut load = Load::new(&server.socket(), std::slice::from_ref(calls), CONNECTIONS)?;
    let counted = load.run(Duration::from_secs(300), count)?;
    ensure!(counted.calls == count, "{} calls of {count}", counted.calls);
    Ok(())
}

fn control(arguments: &[&str]) -> Result<()> {
    let output = Command::new("callgrind_control").args(arguments).output()?;
    if !output.status.success() {
        bail!(
            "callgrind_control: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
