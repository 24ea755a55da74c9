//! The results as lines of text.

use std::fs;

use serde_json::{Value, json};

use crate::process::Memory;
use crate::rounds::Figures;

/// The head of the table.
pub const HEAD: &str = "connections and server         calls/s   CPU/call       p50       p99 | \
    against the limit: calls/s    CPU    p99";

/// One line of the table.
pub fn line(figures: &Figures) -> String {
    let Figures {
        name,
        connections,
        rate,
        cpu,
        p50,
        p99,
        rate_ratio,
        cpu_ratio,
        p99_ratio,
    } = figures;
    format!(
        "{connections:>5} conn. {name:<14} {rate:>9.0} {cpu:>7.2} us {p50:>6.0} us {p99:>6.0} us | \
         {rate_ratio:>26.2} {cpu_ratio:>6.2} {p99_ratio:>6.2}"
    )
}

/// What each further plugin costs, from the rows with one plugin and with `more` plugins beside it.
pub fn further(rows: &[Figures], more: usize) -> String {
    let cpu = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.cpu);
    match (cpu("runner"), cpu("runner, chain")) {
        (Some(one), Some(chain)) => {
            let each = (chain - one) * 1e3 / more as f64;
            format!("            each further plugin: {each:.0} ns")
        }
        _ => String::new(),
    }
}

/// The number of instructions, or that there is none.
pub fn instructions(count: Option<f64>) -> String {
    match count {
        Some(count) => format!("user instructions of a call, 32 connections: {count:.0}"),
        None => "skipped: user instructions (valgrind is not installed)".to_owned(),
    }
}

/// The number of instructions of each further plugin in a chain.
pub fn further_instructions(count: Option<f64>) -> String {
    match count {
        Some(count) => format!("user instructions of each further plugin: {count:.0}"),
        None => "skipped: user instructions of each further plugin".to_owned(),
    }
}

/// Memory before and after the measurement.
pub fn memory(idle: Memory, after: Memory) -> String {
    let mega = |bytes: u64| bytes as f64 / 1e6;
    format!(
        "memory of all processes: idle {:.1} MB resident, {:.1} MB proportional; peak {:.1} MB resident",
        mega(idle.rss),
        mega(idle.pss),
        mega(after.peak)
    )
}

/// The machine, for those who compare results.
pub fn machine() -> Value {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "cpu": model.map(|model| model.trim_start_matches(['\t', ' ', ':'])),
        "cpus": std::thread::available_parallelism().map_or(1, usize::from),
        "kernel": kernel.trim(),
    })
}
