//! Tortures a runner: `cargo xtask torture` builds everything and starts this program.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use torture::builds::{Builds, Special};
use torture::runner::{PLUGINS, Runner};
use torture::torment::{Plan, Torment};

/// Does everything to a runner that can happen to it, under a load of calls each of whose answers is checked
#[derive(Debug, Parser)]
struct Options {
    /// The runner's program
    #[arg(long)]
    runner: PathBuf,
    /// A folder with libraries, `misbehaving` among them
    #[arg(long)]
    plugins: PathBuf,
    /// All libraries of the folder, instead of the ten with which recovery is promised
    #[arg(long)]
    all: bool,
    /// Was built with optimisations
    #[arg(long)]
    release: bool,
    /// Good libraries to lay. Without it: 100, or as many as there is time for
    #[arg(long)]
    swaps: Option<u64>,
    /// Crashes of the worker. Without it: a fifth of the swaps
    #[arg(long)]
    crashes: Option<u64>,
    /// Recycles of the worker. Without it: a fifth of the swaps
    #[arg(long)]
    recycles: Option<u64>,
    /// Ends after so many seconds, however far it has come
    #[arg(long)]
    seconds: Option<u64>,
    /// Connections of the load
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Milliseconds of each connection between an answer and its next call
    #[arg(long, default_value_t = 10)]
    pause: u64,
    /// Where chance starts; without it anywhere
    #[arg(long)]
    seed: Option<u64>,
    /// Keeps the runner's log in this file
    #[arg(long)]
    log: Option<PathBuf>,
}

impl Options {
    fn libraries(&self) -> Result<Vec<PathBuf>> {
        if self.all {
            let libraries = fs::read_dir(&self.plugins)?;
            return libraries.map(|entry| Ok(entry?.path())).collect();
        }
        let file = |name: &str| {
            self.plugins
                .join(format!("lib{}.so", name.replace('-', "_")))
        };
        Ok(PLUGINS.into_iter().map(file).collect())
    }

    fn plan(&self) -> Plan {
        let swaps = match (self.swaps, self.seconds) {
            (Some(swaps), _) => swaps,
            (None, None) => 100,
            // More than there is time for.
            (None, Some(seconds)) => seconds * 100,
        };
        // With a time and nothing else, ten swaps a second and a crash in two.
        let some = match (self.swaps, self.seconds) {
            (None, Some(_)) => swaps / 20,
            _ => swaps / 5,
        };
        Plan {
            swaps,
            crashes: self.crashes.unwrap_or(some),
            recycles: self.recycles.unwrap_or(some),
            at_most: self.seconds.map(Duration::from_secs),
            calm: Duration::from_secs(2),
            connections: self.connections,
            pause: Duration::from_millis(self.pause),
            seed: self.seed.unwrap_or_else(|| fastrand::u64(..)),
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let special = Special::build(if options.release { &["--release"] } else { &[] })?;
    let builds = Builds::read(&options.plugins.join("libmisbehaving.so"), &special)?;
    let plan = options.plan();
    println!("seed {}", plan.seed);
    let libraries = options.libraries()?;
    println!("{} plugins", libraries.len());
    let runner = Runner::start(&options.runner, Runner::folder(&libraries)?)?;
    let torment = Torment::start(runner, builds, plan)?;
    let summary = torment.run(options.log.as_deref(), |line| println!("{line}"))?;
    println!("\n{}", summary.table());
    let faults = summary.faults();
    if !faults.is_empty() {
        bail!("promises were broken:\n{}", faults.join("\n"));
    }
    println!("every promise was kept");
    Ok(())
}
