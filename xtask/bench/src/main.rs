//! Measures runners against the limit: `cargo xtask bench` builds everything and starts this program.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bench::cases::{self, Finding, Setup};
use bench::guard::{CPU_RATIO, FURTHER, INSTRUCTIONS};
use bench::rounds::{Effort, Row};
use bench::server::Server;
use bench::{echo, guard, limit, load, plot, process, report, rounds, server, start};
use clap::Parser;
use serde_json::{Map, json};

/// The plugin of this repository that is measured.
const PLUGIN: &str = "bench-headers";

/// Plugins in the longer chain.
const CHAIN: usize = 11;

/// Measures a runner, and others that run already, against the fastest server there can be
#[derive(Debug, Parser)]
struct Options {
    /// The runner's program
    #[arg(long)]
    runner: PathBuf,
    /// A folder with libraries, `bench-headers` among them
    #[arg(long)]
    plugins: PathBuf,
    /// Numbers of connections
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128")]
    connections: Vec<usize>,
    /// Turns
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each server in each turn
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Lets the system choose the CPUs
    #[arg(long)]
    unpinned: bool,
    /// Another runner that is started already: its socket
    #[arg(long, requires = "pid")]
    socket: Option<PathBuf>,
    /// The other runner's process
    #[arg(long, requires = "socket")]
    pid: Option<i32>,
    /// What the other runner is called in the table
    #[arg(long, default_value = "other")]
    name: String,
    /// The other runner's plugin, which has to set the header; its conf follows a `=`
    #[arg(long, default_value = "bench-headers={}")]
    conf: String,
    /// The header that the other runner's plugin sets to the value of `x-request-id`
    #[arg(long, default_value = "x-bench")]
    header: String,
    /// Writes the results as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes the results as a picture (SVG)
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Keeps callgrind's counts, for `callgrind_annotate`
    #[arg(long)]
    profile: Option<PathBuf>,
    /// Measures only these, in this order: `table`, `starts`, `memory`, `blocking`, `swaps`,
    /// `recycles`, `sizes`, `bodies`, `loops`
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Only tells whether the runner has become slower: for continuous integration
    #[arg(long)]
    guard: bool,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("limit-of-bodies") {
        let (socket, size) = (arguments.next(), arguments.next());
        let size = size.unwrap_or_default().parse()?;
        return limit::serve_bodies(&PathBuf::from(socket.unwrap_or_default()), size);
    }
    if first.as_deref() == Some("echo") {
        let [kind, socket, reply] = [(); 3].map(|()| arguments.next().unwrap_or_default());
        return echo::serve(&kind, &PathBuf::from(socket), &fs::read(reply)?);
    }
    process::raise_descriptors();
    let options = Options::parse();
    if options.guard {
        return judge(&options);
    }
    if options.rows.iter().all(|row| row == "table") {
        return measure(&options);
    }
    measure_cases(&options)
}

/// The rows that were asked for by name.
fn measure_cases(options: &Options) -> Result<()> {
    let setup = Setup {
        runner: &options.runner,
        plugins: &options.plugins,
        seconds: options.seconds,
        rounds: options.rounds.max(1),
    };
    let mut all = Map::new();
    let mut ratios = Vec::new();
    for name in &options.rows {
        if name == "table" {
            measure(options)?;
            continue;
        }
        println!("\n== {name}");
        let findings = cases::measure(name, &setup)?;
        let findings = findings.with_context(|| {
            format!(
                "there are no rows `{name}`: `table`, {}",
                cases::NAMES.join(", ")
            )
        })?;
        for finding in &findings {
            println!("{}", finding.lines());
            ratios.extend(finding.ratio());
        }
        let findings: Vec<_> = findings.iter().map(Finding::json).collect();
        all.insert(name.clone(), findings.into());
    }
    if let Some(file) = &options.plot {
        plot::bars(file, &ratios)?;
    }
    if let Some(file) = &options.json {
        let all = json!({ "machine": report::machine(), "rows": all });
        fs::write(file, format!("{all:#}\n"))?;
    }
    Ok(())
}

fn chain(length: usize) -> Vec<(String, String)> {
    vec![(PLUGIN.to_owned(), "{}".to_owned()); length]
}

fn measure(options: &Options) -> Result<()> {
    let starts = start::measure(&options.runner, &options.plugins, &chain(1))?;
    println!("{starts}");
    let instructions = count(options, 1)?;
    println!("{}", report::instructions(instructions));
    let servers = Servers::start(options)?;
    let idle = process::memory(servers.runner.pid());
    let rows = servers.rows(options)?;
    pin(options, &rows)?;
    let mut figures = Vec::new();
    println!("{}", report::HEAD);
    for connections in &options.connections {
        let measured = rounds::measure(&rows, *connections, effort(options))?;
        for line in &measured {
            println!("{}", report::line(line));
        }
        println!("{}", report::further(&measured, CHAIN - 1));
        figures.extend(measured);
    }
    let peak = process::memory(servers.runner.pid());
    println!("{}", report::memory(idle, peak));
    if let Some(file) = &options.plot {
        plot::draw(file, &figures)?;
    }
    if let Some(file) = &options.json {
        let rows: Vec<_> = figures.iter().map(rounds::Figures::json).collect();
        let all = json!({
            "machine": report::machine(),
            "rows": rows,
            "user_instructions_per_call": instructions,
            "start_to_first_answer_ms": starts.json(),
            "memory_bytes": { "idle": idle.json(), "after": peak.json() },
        });
        fs::write(file, format!("{all:#}\n"))?;
    }
    Ok(())
}

fn judge(options: &Options) -> Result<()> {
    let further = count(options, CHAIN)?;
    let instructions = count(options, 1)?;
    println!("{}", report::instructions(instructions));
    let further = further.zip(instructions);
    let further = further.map(|(chain, one)| (chain - one) / (CHAIN - 1) as f64);
    println!("{}", report::further_instructions(further));
    let servers = Servers::start(options)?;
    let rows = &servers.rows(options)?[..2];
    pin(options, rows)?;
    let effort = Effort {
        rounds: 5,
        time: Duration::from_millis(600),
    };
    let ratio = rounds::measure(rows, 32, effort)?[1].cpu_ratio;
    println!(
        "CPU of a call against the limit, 32 connections: {ratio:.2} (at most {CPU_RATIO:.2})"
    );
    ensure!(ratio <= CPU_RATIO, "a call takes more CPU than it may");
    at_most(instructions, INSTRUCTIONS, "a call")?;
    at_most(further, FURTHER, "each further plugin")
}

/// Judges a number of instructions, if there is one.
fn at_most(instructions: Option<f64>, most: f64, whose: &str) -> Result<()> {
    let instructions = instructions.unwrap_or(0.0);
    ensure!(
        instructions <= most,
        "{whose} takes {instructions:.0} instructions and may take {most:.0}"
    );
    Ok(())
}

/// User instructions of a call whose chain is that long. Its counts are kept where `--profile` says.
fn count(options: &Options, length: usize) -> Result<Option<f64>> {
    let Options {
        runner, plugins, ..
    } = options;
    let profile = options.profile.as_ref().map(|file| {
        let mut name = file.clone().into_os_string();
        if length > 1 {
            name.push(".chain");
        }
        PathBuf::from(name)
    });
    guard::instructions(runner, plugins, &chain(length), profile.as_deref())
}

fn effort(options: &Options) -> Effort {
    Effort {
        rounds: options.rounds.max(1),
        time: Duration::from_secs_f64(options.seconds),
    }
}

/// Keeps the servers on one CPU and the client on another.
fn pin(options: &Options, rows: &[Row]) -> Result<()> {
    let cpus = process::two_cpus().filter(|_| !options.unpinned);
    let Some((client, server)) = cpus else {
        println!("not pinned: client and servers share the CPUs");
        return Ok(());
    };
    for row in rows {
        process::pin(row.pid, server)?;
    }
    process::pin(std::process::id() as i32, client)?;
    // The servers that we started are below us in the tree.
    for row in rows {
        process::pin(row.pid, server)?;
    }
    println!("pinned: the client to CPU {client}, the servers to CPU {server}");
    Ok(())
}

/// The servers that this program has started.
struct Servers {
    limit: Server,
    runner: Server,
}

impl Servers {
    fn start(options: &Options) -> Result<Self> {
        let runner = Server::runner(&options.runner, &options.plugins, &[], &[])?;
        let calls = runner.wait(|socket| server::runner_calls(socket, &chain(1), "x-bench"))?;
        let reply = load::one_call(&runner.socket(), &calls)?;
        Ok(Self {
            limit: Server::limit(&reply)?,
            runner,
        })
    }

    fn rows(&self, options: &Options) -> Result<Vec<Row>> {
        let reply = fs::read(self.limit.file("reply"))?;
        let mut rows = vec![Row {
            name: "limit".to_owned(),
            socket: self.limit.socket(),
            pid: self.limit.pid(),
            calls: vec![server::limit_calls(&reply)?],
            connections: None,
        }];
        for (name, length) in [("runner", 1), ("runner, chain", CHAIN)] {
            let socket = self.runner.socket();
            rows.push(Row {
                name: name.to_owned(),
                calls: vec![server::runner_calls(&socket, &chain(length), "x-bench")?],
                connections: None,
                socket,
                pid: self.runner.pid(),
            });
        }
        if let (Some(socket), Some(pid)) = (&options.socket, options.pid) {
            let (name, conf) = options.conf.split_once('=').unwrap_or((&options.conf, ""));
            let conf = [(name.to_owned(), conf.to_owned())];
            rows.push(Row {
                name: options.name.clone(),
                socket: socket.clone(),
                pid,
                calls: vec![server::runner_calls(socket, &conf, &options.header)?],
                connections: None,
            });
        }
        Ok(rows)
    }
}
