//! `status`: how a running runner is, for people, for programs and for probes.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::ask::Which;
use crate::exit::Failure;
use crate::supervise::admin::message::{
    Answer, Bindings, LibraryFile, Plugin, Recycles, Request, Status, Worker,
};

const EXAMPLES: &str = "\
Examples:
  A readiness probe: exit code 0 once calls are answered:
    plugin-runner status --ready

  What a program reads:
    plugin-runner status --json

Exit codes: 0 answered (with --ready: and ready), 1 not ready or no runner answered, 64 wrong arguments.";

/// Show how a running runner is: its plugins, and the libraries that do not serve
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Show nothing; end with exit code 0 if calls are answered, 1 if not
    #[arg(long, conflicts_with = "json")]
    ready: bool,
    #[command(flatten)]
    which: Which,
}

impl Show {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Answer::Status(status) = self.which.ask(&Request::Status)? else {
            return Err(Failure::new("the runner answered another question").into());
        };
        if self.ready && !status.ready {
            return Err(Failure::new(not_ready(&status)).into());
        }
        if self.ready {
            return Ok(());
        }
        let text = match self.json {
            true => serde_json::to_string_pretty(&status).context("the answer is no JSON")?,
            false => describe(&status).context("the answer cannot be shown")?,
        };
        super::say(&text);
        Ok(())
    }
}

fn not_ready(status: &Status) -> &'static str {
    match &status.worker {
        None => "the runner is not ready: it has no worker",
        Some(_) => "the runner is not ready: its worker does not accept connections yet",
    }
}

fn describe(status: &Status) -> Result<String, std::fmt::Error> {
    let runner = &status.runner;
    let mut text = format!(
        "plugin-runner {} (plugin ABI {}), process {}, up {}\n",
        runner.version,
        runner.abi,
        runner.pid,
        time(runner.uptime_seconds)
    );
    let ready = if status.ready { "" } else { " (not ready)" };
    writeln!(text, "socket   {}{ready}", runner.socket.display())?;
    match &status.worker {
        None => writeln!(text, "worker   none")?,
        Some(worker) => writeln!(text, "worker   {}", describe_worker(worker))?,
    }
    if let Some(worker) = &status.leaving {
        writeln!(text, "leaving  {}", describe_leaving(worker))?;
    }
    describe_recycles(&mut text, &status.recycles)?;
    writeln!(
        text,
        "tokens   {} of {}",
        status.tokens.live, status.tokens.max
    )?;
    describe_bindings(&mut text, &status.bindings)?;
    describe_dropped(&mut text, status)?;
    writeln!(text, "plugins  {}", status.plugins.len())?;
    let now = runner.started_at + runner.uptime_seconds;
    for plugin in &status.plugins {
        describe_plugin(&mut text, plugin, now)?;
    }
    let idle = |file: &&LibraryFile| file.state == "serving" && file.cause.is_none();
    for file in status.libraries.iter().filter(|file| !idle(file)) {
        describe_file(&mut text, file)?;
    }
    Ok(text.trim_end().to_owned())
}

fn describe_worker(worker: &Worker) -> String {
    let mut text = format!(
        "process {}, number {}, up {}",
        worker.pid,
        worker.number,
        time(worker.uptime_seconds)
    );
    if let Some(memory) = worker.memory_bytes {
        text += &format!(", {}", size(memory));
    }
    text += &match (worker.serving, worker.answers) {
        (false, _) => ", does not accept connections yet".to_owned(),
        (true, false) => ", does not say how it is".to_owned(),
        (true, true) => format!(", {}", count(worker.connections as u64, "connection")),
    };
    if worker.stuck_loops > 0 {
        text += &format!(", {}", count(worker.stuck_loops as u64, "stuck event loop"));
    }
    text
}

fn describe_leaving(worker: &Worker) -> String {
    let memory = worker
        .memory_bytes
        .map(|memory| format!("{}, ", size(memory)));
    format!(
        "process {}, number {}, up {}, {}finishes its calls",
        worker.pid,
        worker.number,
        time(worker.uptime_seconds),
        memory.unwrap_or_default()
    )
}

fn describe_recycles(text: &mut String, recycles: &Recycles) -> std::fmt::Result {
    let Some(last) = &recycles.last else {
        return Ok(());
    };
    write!(text, "recycled {}", count(recycles.done, "time"))?;
    if recycles.failed > 0 {
        write!(text, ", and {} in vain", count(recycles.failed, "time"))?;
    }
    match &last.fault {
        None => writeln!(text, "; last in {} ms, as {}", last.took_ms, last.reason),
        Some(fault) => writeln!(text, "; last in vain: {fault}"),
    }
}

fn describe_bindings(text: &mut String, bindings: &Bindings) -> std::fmt::Result {
    let Bindings {
        file,
        read,
        serving,
        fault,
    } = bindings;
    if let Some(file) = file {
        let file = file.display();
        writeln!(text, "bindings {serving} serve, {read} read from {file}")?;
    }
    for line in fault.iter().flat_map(|fault| fault.lines()) {
        writeln!(text, "    not taken up: {line}")?;
    }
    Ok(())
}

fn describe_dropped(text: &mut String, status: &Status) -> std::fmt::Result {
    let worker = status.worker.as_ref();
    let lines = worker.map_or(0, |worker| worker.log_lines_dropped);
    let lines = lines + status.runner.log_lines_dropped;
    let calls = worker.map_or(0, |worker| worker.log_calls_dropped);
    if lines + calls > 0 {
        let (lines, calls) = (count(lines, "line"), count(calls, "call"));
        writeln!(
            text,
            "log      {lines} dropped, {calls} not logged by plugins"
        )?;
    }
    Ok(())
}

fn describe_plugin(text: &mut String, plugin: &Plugin, now: u64) -> std::fmt::Result {
    writeln!(
        text,
        "  {} {}: {}, generation {}, loaded {} ago, {}, {}, {} ({})",
        plugin.name,
        plugin.version,
        plugin.state,
        plugin.generation,
        time(now.saturating_sub(plugin.loaded_at)),
        count(plugin.confs as u64, "conf"),
        count(plugin.calls, "call"),
        count(plugin.errors, "error"),
        count(plugin.panics, "panic"),
    )?;
    let last_good = if plugin.last_good {
        " (its last good copy)"
    } else {
        ""
    };
    let file = plugin.file.display();
    writeln!(text, "    {file}{last_good}  sha256 {}", plugin.sha256)?;
    if let Some(error) = &plugin.last_error {
        writeln!(text, "    last error: {}", error.text)?;
    }
    let retained = &plugin.retained;
    if retained.generations > 0 {
        let earlier = count(retained.generations as u64, "earlier generation");
        let memory = size(retained.memory_bytes);
        let confs = retained.serving_confs;
        writeln!(
            text,
            "    {earlier} in memory ({memory}), {confs} of them with confs"
        )?;
    }
    Ok(())
}

fn describe_file(text: &mut String, file: &LibraryFile) -> std::fmt::Result {
    writeln!(text, "library  {}: {}", file.file.display(), file.state)?;
    if let Some(cause) = &file.cause {
        writeln!(text, "    cause: {cause}")?;
    }
    if let Some(hint) = &file.hint {
        writeln!(text, "    hint: {hint}")?;
    }
    if let (Some(generation), Some(_)) = (file.generation, &file.cause) {
        let last_good = if file.last_good {
            ", its last good copy"
        } else {
            ""
        };
        writeln!(
            text,
            "    still serving: generation {generation}{last_good}"
        )?;
    }
    Ok(())
}

fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The two largest units.
fn time(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match Duration::from_secs(seconds) {
        _ if days > 0 => format!("{days} d {} h", hours % 24),
        _ if hours > 0 => format!("{hours} h {} min", minutes % 60),
        _ if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::admin::message::{LastError, Recycled, Retained, Runner, Tokens};

    #[test]
    fn people_read_what_serves_what_does_not_and_why() {
        let status = Status {
            ready: true,
            runner: Runner {
                pid: 10,
                version: "0.1.0".into(),
                abi: "1.0".into(),
                started_at: 1000,
                uptime_seconds: 3700,
                socket: "/run/s".into(),
                ..Runner::default()
            },
            worker: Some(Worker {
                pid: 11,
                number: 1,
                serving: true,
                answers: true,
                connections: 1,
                log_lines_dropped: 3,
                memory_bytes: Some(3 << 20),
                ..Worker::default()
            }),
            leaving: Some(Worker {
                pid: 9,
                number: 0,
                uptime_seconds: 61,
                ..Worker::default()
            }),
            recycles: Recycles {
                done: 2,
                failed: 1,
                last: Some(Recycled {
                    reason: "it was asked for".into(),
                    took_ms: 40,
                    ..Recycled::default()
                }),
            },
            tokens: Tokens { live: 2, max: 9 },
            bindings: Bindings {
                file: Some("/c/bindings.yaml".into()),
                read: 2,
                serving: 1,
                fault: Some("line 3: no".into()),
            },
            plugins: vec![Plugin {
                name: "stop".into(),
                version: "0.1.0".into(),
                state: "serving".into(),
                generation: 3,
                last_good: true,
                loaded_at: 4697,
                file: "/p/libstop.so".into(),
                sha256: "ab".into(),
                calls: 7,
                errors: 1,
                last_error: Some(LastError {
                    text: "no".into(),
                    at: 0,
                }),
                retained: Retained {
                    generations: 2,
                    serving_confs: 1,
                    memory_bytes: 1 << 20,
                },
                ..Plugin::default()
            }],
            libraries: vec![LibraryFile {
                file: "/p/libstop.so".into(),
                state: "refused".into(),
                generation: Some(3),
                last_good: true,
                cause: Some("it is truncated".into()),
                hint: Some("copy it again".into()),
                ..LibraryFile::default()
            }],
        };
        let wanted = "\
plugin-runner 0.1.0 (plugin ABI 1.0), process 10, up 1 h 1 min
socket   /run/s
worker   process 11, number 1, up 0 s, 3.0 MiB, 1 connection
leaving  process 9, number 0, up 1 min 1 s, finishes its calls
recycled 2 times, and 1 time in vain; last in 40 ms, as it was asked for
tokens   2 of 9
bindings 1 serve, 2 read from /c/bindings.yaml
    not taken up: line 3: no
log      3 lines dropped, 0 calls not logged by plugins
plugins  1
  stop 0.1.0: serving, generation 3, loaded 3 s ago, 0 confs, 7 calls, 1 error (0 panics)
    /p/libstop.so (its last good copy)  sha256 ab
    last error: no
    2 earlier generations in memory (1.0 MiB), 1 of them with confs
library  /p/libstop.so: refused
    cause: it is truncated
    hint: copy it again
    still serving: generation 3, its last good copy";
        assert_eq!(describe(&status).unwrap(), wanted);
    }
}
