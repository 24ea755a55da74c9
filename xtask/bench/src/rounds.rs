//! Measures several servers in turns and compares them within each turn: the machine may be slower from one second to
//! the next, for all of them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::load::{Calls, Load};
use crate::process;

/// One server to measure.
#[derive(Debug, Clone)]
pub struct Row {
    /// As it is shown.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its process; those below it count, too.
    pub pid: i32,
    /// What it is asked: each connection makes one of these, in turn.
    pub calls: Vec<Calls>,
    /// Connections, if not as many as with the other rows.
    pub connections: Option<usize>,
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Turns.
    pub rounds: usize,
    /// Of one server in one turn.
    pub time: Duration,
}

/// One server in one turn.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rate: f64,
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// A server at a number of connections: medians, and medians of the ratios to the first row of the same turn.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The row's name.
    pub name: String,
    /// Connections.
    pub connections: usize,
    /// Calls per second.
    pub rate: f64,
    /// CPU time of one call, in microseconds, user and system, of all processes of the server.
    pub cpu: f64,
    /// In microseconds.
    pub p50: f64,
    /// In microseconds.
    pub p99: f64,
    /// `rate` against that of the first row.
    pub rate_ratio: f64,
    /// `cpu` against that of the first row.
    pub cpu_ratio: f64,
    /// `p99` against that of the first row.
    pub p99_ratio: f64,
}

impl Figures {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "connections": self.connections,
            "calls_per_second": self.rate.round(),
            "cpu_us_per_call": round(self.cpu),
            "p50_us": round(self.p50),
            "p99_us": round(self.p99),
            "ratio_to_limit": {
                "calls_per_second": round(self.rate_ratio),
                "cpu": round(self.cpu_ratio),
                "p99": round(self.p99_ratio),
            },
        })
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Measures all rows at a number of connections. The first one is what the others are compared with.
///
/// # Errors
/// A server answers wrongly, or not at all.
pub fn measure(rows: &[Row], connections: usize, effort: Effort) -> Result<Vec<Figures>> {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); rows.len()];
    for round in 0..effort.rounds {
        // Not always after the same neighbour.
        for turn in 0..rows.len() {
            let at = (turn + round) % rows.len();
            let row = &rows[at];
            let sample = sample(row, connections, effort.time);
            samples[at].push(sample.with_context(|| row.name.clone())?);
        }
    }
    let figures = rows.iter().zip(&samples);
    let figures = figures.map(|(row, own)| summary(&row.name, connections, own, &samples[0]));
    Ok(figures.collect())
}

fn sample(row: &Row, connections: usize, time: Duration) -> Result<Sample> {
    let connections = row.connections.unwrap_or(connections);
    let mut load = Load::new(&row.socket, &row.calls, connections)?;
    // A new connection, a cold cache, a watchdog at rest: not what is measured.
    load.run(time / 5, usize::MAX)?;
    let before = process::cpu(row.pid)?;
    let mut counted = load.run(time, usize::MAX)?;
    let cpu = process::cpu(row.pid)?.saturating_sub(before);
    counted.latencies.sort_unstable();
    let at = |part: f64| {
        let last = counted.latencies.len() - 1;
        f64::from(counted.latencies[(last as f64 * part) as usize]) / 1e3
    };
    let calls = counted.calls as f64;
    Ok(Sample {
        rate: calls / counted.time.as_secs_f64(),
        cpu: cpu.as_secs_f64() * 1e6 / calls,
        p50: at(0.50),
        p99: at(0.99),
    })
}

fn summary(name: &str, connections: usize, own: &[Sample], first: &[Sample]) -> Figures {
    let of = |value: fn(&Sample) -> f64| median(own.iter().map(value).collect());
    let ratio = |value: fn(&Sample) -> f64| {
        let pairs = own.iter().zip(first);
        median(
            pairs
                .map(|(own, first)| value(own) / value(first))
                .collect(),
        )
    };
    Figures {
        name: name.to_owned(),
        connections,
        rate: of(|sample| sample.rate),
        cpu: of(|sample| sample.cpu),
        p50: of(|sample| sample.p50),
        p99: of(|sample| sample.p99),
        rate_ratio: ratio(|sample| sample.rate),
        cpu_ratio: ratio(|sample| sample.cpu),
        p99_ratio: ratio(|sample| sample.p99),
    }
}

/// The middle one; the lower of two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values
        .get((values.len().max(1) - 1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value_in_any_order() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 2.0]), 2.0);
    }

    #[test]
    fn a_ratio_is_taken_within_a_turn_and_not_of_the_medians() {
        let sample = |cpu| Sample {
            rate: 1.0,
            cpu,
            p50: 1.0,
            p99: 1.0,
        };
        let own = [sample(2.0), sample(20.0), sample(8.0)];
        let first = [sample(1.0), sample(10.0), sample(2.0)];
        assert_eq!(summary("a", 1, &own, &first).cpu_ratio, 2.0);
    }
}
