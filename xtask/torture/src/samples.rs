//! Memory and descriptors over time, and how fast they grow.

use std::fs;
use std::time::{Duration, Instant};

use crate::runner::Runner;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);

/// One process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process {
    /// Resident, in kB.
    pub memory: u64,
    /// Open.
    pub descriptors: u64,
}

/// Both processes at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Swaps up to then.
    pub swaps: u64,
    /// The supervisor.
    pub supervisor: Process,
    /// The worker, if there was one.
    pub worker: Option<Process>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Samples {
    all: Vec<Sample>,
    last: Option<Instant>,
}

impl Samples {
    /// Takes a sample if it is time.
    pub fn take(&mut self, runner: &Runner, swaps: u64) {
        if self.last.is_none_or(|last| last.elapsed() >= EVERY) {
            self.last = Some(Instant::now());
            self.take_now(runner, swaps);
        }
    }

    /// Takes a sample.
    pub fn take_now(&mut self, runner: &Runner, swaps: u64) {
        let Some(supervisor) = process(runner.pid()) else {
            return;
        };
        self.all.push(Sample {
            swaps,
            supervisor,
            worker: runner.worker().and_then(process),
        });
    }

    /// The first and the last value, and how much it grows in a thousand swaps: a line through all samples but those of
    /// the first tenth, in which caches fill.
    pub fn growth(&self, value: impl Fn(&Sample) -> Option<u64>) -> Option<Growth> {
        let points = self.all.iter().filter_map(|sample| {
            let value = value(sample)?;
            Some((sample.swaps as f64, value as f64))
        });
        let points: Vec<_> = points.collect();
        let (first, last) = (points.first()?, points.last()?);
        let warm = &points[points.len() / 10..];
        Some(Growth {
            start: first.1,
            end: last.1,
            slope: slope(warm) * 1000.0,
        })
    }
}

/// How a value has developed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// At first.
    pub start: f64,
    /// At last.
    pub end: f64,
    /// In a thousand swaps.
    pub slope: f64,
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let across: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let along: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    if along > 0.0 { across / along } else { 0.0 }
}

fn process(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let memory = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Process {
        memory: memory.split_whitespace().next()?.parse().ok()?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line_through_the_points() {
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 5.0), (1.0, 7.0), (2.0, 5.0)]), 0.0);
        assert_eq!(slope(&[(3.0, 5.0)]), 0.0);
    }
}
