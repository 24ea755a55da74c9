//! The form for a machine that others use, too: fails only on a real regression. What counts is the number of user
//! instructions of a call, which does not drift; the CPU ratio to the limit has a wide margin.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::load::{Calls, Load};
use crate::server::{self, Server};

/// User instructions of a call, at most: some more than there are today, as another compiler may need them. It goes down
/// with what is saved; the target is 3,000.
pub const INSTRUCTIONS: f64 = 3_650.0;

/// User instructions of each further plugin in a chain, at most. The target is 60 ns, about 650.
pub const FURTHER: f64 = 900.0;

/// CPU of a call against the limit at 32 connections, at most. The target is 1.20; a machine with neighbours drifts.
pub const CPU_RATIO: f64 = 1.70;

/// Connections: enough that several calls wait at each turn of the loop.
const CONNECTIONS: usize = 32;
const CALLS: usize = 20_000;

/// A runner gives back what loading took when it has been quiet for two seconds. That is not the calls' work.
const TIDIED: Duration = Duration::from_secs(6);

/// Two windows that differ by less cost the same.
const STEADY: f64 = 0.01;

/// Windows to wait through, at most.
const WINDOWS: usize = 60;

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
    settle(&server, &calls, &counts)?;
    window(&server, &calls, CALLS)?;
    server.end()?;
    Ok(Some(total(&counts)? / CALLS as f64))
}

/// Waits until nothing but calls is counted: what a start leaves to do is done, and two windows cost the same. What was
/// counted until then is forgotten.
fn settle(server: &Server, calls: &Calls, counts: &Path) -> Result<()> {
    let tidied = Instant::now() + TIDIED;
    let mut before = f64::NAN;
    for number in 1..=WINDOWS {
        window(server, calls, CALLS / 10)?;
        // Writes what was counted into a file of that number, and counts from zero.
        control(&["--dump", &server.pid().to_string()])?;
        let mut file = counts.as_os_str().to_owned();
        file.push(format!(".{number}"));
        let file = PathBuf::from(file);
        let total = total(&file)?;
        fs::remove_file(&file)?;
        if Instant::now() > tidied && (total / before - 1.0).abs() < STEADY {
            return Ok(());
        }
        before = total;
    }
    bail!("{WINDOWS} windows of calls, and no two after each other took as many instructions")
}

fn window(server: &Server, calls: &Calls, count: usize) -> Result<()> {
    let pid = server.pid().to_string();
    control(&["--instr=on", &pid])?;
    load(server, calls, count)?;
    control(&["--instr=off", &pid])
}

fn total(counts: &Path) -> Result<f64> {
    let text = fs::read_to_string(counts).context("callgrind left no counts")?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: f64 = total.context("callgrind counted nothing")?.trim().parse()?;
    ensure!(total > 0.0, "callgrind counted no instructions");
    Ok(total)
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
