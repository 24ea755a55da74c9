//! The table at the end, and the verdict.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::ledger::{Counts, Effort, Times};
use crate::samples::{Growth, Sample, Samples};

/// What was done to the runner.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Good libraries that were laid and served.
    pub swaps: u64,
    /// Bad ones, none of which served.
    pub broken: BTreeMap<&'static str, u64>,
    /// Worker's ends, by way.
    pub crashes: BTreeMap<&'static str, u64>,
    /// How long calls had no answer after them, by way.
    pub recoveries: BTreeMap<&'static str, Vec<Duration>>,
    /// New workers without the end of the old one.
    pub recycles: u64,
    /// Reloads without a change.
    pub reloads: u64,
}

/// All that a run has found.
#[derive(Debug)]
pub struct Summary {
    /// What was done.
    pub done: Done,
    /// What the clients counted.
    pub counts: Counts,
    /// Memory and descriptors.
    pub samples: Samples,
    /// How long it took.
    pub time: Duration,
    /// Connections of the load, and the time that each let pass between an answer and its next call.
    pub connections: usize,
    pub pause: Duration,
}

impl Summary {
    /// Everything that breaks a promise, in words.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.counts.faults.clone();
        let more = self.counts.faulty - faults.len() as u64;
        if more > 0 {
            faults.push(format!("and {more} more"));
        }
        faults
    }

    /// The table.
    pub fn table(&self) -> String {
        let Self { done, counts, .. } = self;
        let mut table = String::new();
        let mut line = |name: &str, value: String| {
            // A string takes everything.
            let _ = writeln!(table, "{name:<26} {value}");
        };
        line("time", format!("{:.0} s", self.time.as_secs_f64()));
        line("calls", counts.calls.to_string());
        line("wrong answers", counts.wrong.to_string());
        line("error frames", counts.error_frames.to_string());
        line("lost calls", by_cause(&counts.lost));
        line("closed idle connections", by_cause(&counts.closed));
        line("swaps", done.swaps.to_string());
        line("broken libraries laid", by_cause(&done.broken));
        line("crashes", by_cause(&done.crashes));
        line("recycles", done.recycles.to_string());
        line("reloads of nothing", done.reloads.to_string());
        line("answer before", times(&counts.before));
        line("answer during swaps", times(&counts.during));
        line("answer across a crash", times(&counts.crashed));
        line("crash to first answer", recoveries(&counts.recoveries));
        line("by way, medians", slowest(&done.recoveries));
        line("load", self.load());
        let supervisor_memory = self.growth(|sample| Some(sample.supervisor.memory));
        let worker_memory = self.growth(|sample| Some(sample.worker?.memory));
        let supervisor_files = self.growth(|sample| Some(sample.supervisor.descriptors));
        let worker_files = self.growth(|sample| Some(sample.worker?.descriptors));
        line("supervisor memory, kB", supervisor_memory);
        line("worker memory, kB", worker_memory);
        line("supervisor descriptors", supervisor_files);
        line("worker descriptors", worker_files);
        table
    }

    /// So that nobody takes the clients' own pauses for the runner's.
    fn load(&self) -> String {
        let Effort { ran, waited } = self.counts.client;
        let rate = self.counts.calls as f64 / self.time.as_secs_f64();
        let (ran, waited) = (ran * 100.0, waited * 100.0);
        format!(
            "{} connections, {} ms between an answer and the next call, {rate:.0} calls/s; its thread ran {ran:.0} % of the time and waited {waited:.0} % for a processor",
            self.connections,
            self.pause.as_millis()
        )
    }

    fn growth(&self, value: impl Fn(&Sample) -> Option<u64>) -> String {
        match self.samples.growth(value) {
            Some(Growth { start, end, slope }) => {
                format!("{start:.0} at the start, {end:.0} at the end, {slope:+.2} in 1,000 swaps")
            }
            None => "not measured".to_owned(),
        }
    }
}

fn by_cause(counts: &BTreeMap<&'static str, u64>) -> String {
    let sum: u64 = counts.values().sum();
    let parts = counts
        .iter()
        .map(|(cause, count)| format!("{cause} {count}"));
    let parts: Vec<_> = parts.collect();
    match parts.is_empty() {
        true => sum.to_string(),
        false => format!("{sum} ({})", parts.join(", ")),
    }
}

fn times(times: &Times) -> String {
    let (median, p99) = (times.quantile(0.5), times.quantile(0.99));
    let longest = times.longest();
    format!("median {median:.2} ms, p99 {p99:.2} ms, longest pause {longest:.1} ms")
}

fn recoveries(recoveries: &[Duration]) -> String {
    let Some(Recovery { median, p95, most }) = recovery(recoveries) else {
        return "not measured".to_owned();
    };
    format!("median {median:.1} ms, p95 {p95:.1} ms, longest {most:.1} ms")
}

fn slowest(ways: &BTreeMap<&'static str, Vec<Duration>>) -> String {
    let median = |times: &Vec<Duration>| recovery(times).map_or(0.0, |recovery| recovery.median);
    let mut medians: Vec<_> = ways.iter().map(|(way, t)| (median(t), *way)).collect();
    medians.sort_by(|a, b| b.0.total_cmp(&a.0));
    let parts = medians.iter().map(|(ms, way)| format!("{way} {ms:.0}"));
    let parts: Vec<_> = parts.collect();
    parts.join(", ") + " ms"
}

/// Crash to first right answer, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Recovery {
    /// Of all crashes.
    pub median: f64,
    /// Of all crashes.
    pub p95: f64,
    /// Of all crashes.
    pub most: f64,
}

/// What they come to; `None` if there was none.
pub fn recovery(recoveries: &[Duration]) -> Option<Recovery> {
    let mut sorted = recoveries.to_vec();
    sorted.sort_unstable();
    let at = |part: f64| {
        let place = (sorted.len() as f64 * part).ceil() as usize;
        let time = sorted.get(place.max(1) - 1)?;
        Some(time.as_secs_f64() * 1e3)
    };
    Some(Recovery {
        median: at(0.5)?,
        p95: at(0.95)?,
        most: at(1.0)?,
    })
}
