//! What the system knows of a process and its children: CPU time, memory, on which CPU they may run.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

/// Memory of a process and its children, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident; pages that several processes share count for each.
    pub rss: u64,
    /// Resident; a page that `n` processes share counts as `1/n`.
    pub pss: u64,
    /// Resident, and mapped by no other process. What was written to a file a moment ago counts, too.
    pub private: u64,
    /// Resident, and of no file: what only the end of the process gives back.
    pub anonymous: u64,
    /// The largest `rss` of each process so far, added up.
    pub peak: u64,
}

impl Memory {
    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "rss": self.rss, "pss": self.pss, "private": self.private,
            "anonymous": self.anonymous, "peak_rss": self.peak })
    }
}

/// The process and all below it.
pub fn tree(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    for task in tasks(pid) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{task}/children"));
        for child in numbers(&children.unwrap_or_default()) {
            found.extend(tree(child));
        }
    }
    found
}

fn numbers(text: &str) -> Vec<i32> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

fn tasks(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// CPU time of the process and all below it, user and system. It counts in steps of 10 ms.
///
/// # Errors
/// The process is gone.
pub fn cpu(pid: i32) -> Result<Duration> {
    let per_second = rustix::param::clock_ticks_per_second();
    let mut ticks = 0;
    for each in tree(pid) {
        ticks += ticks_of(each).with_context(|| format!("process {each} has ended"))?;
    }
    Ok(Duration::from_millis(ticks * 1_000 / per_second))
}

fn ticks_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything. Behind it: the state, then 10 more fields, then utime and stime.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Memory of the process and all below it.
pub fn memory(pid: i32) -> Memory {
    let mut sum = Memory::default();
    for each in tree(pid) {
        let now = fs::read_to_string(format!("/proc/{each}/smaps_rollup")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{each}/status")).unwrap_or_default();
        sum.rss += field(&now, "Rss:");
        sum.pss += field(&now, "Pss:");
        sum.private += field(&now, "Private_Clean:") + field(&now, "Private_Dirty:");
        sum.anonymous += field(&now, "Anonymous:");
        sum.peak += field(&status, "VmHWM:");
    }
    sum
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// Lets us, and the servers we start, have as many files open as the system allows: a connection takes two.
pub fn raise_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it fails, only the largest numbers of connections do, and say why.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Two different CPUs, for the client and for the servers; `None` on a machine with one.
pub fn two_cpus() -> Option<(usize, usize)> {
    let mut cpus = cpus().ok()?.into_iter();
    Some((cpus.next()?, cpus.next()?))
}

/// The CPUs that we may run on now.
///
/// # Errors
/// The system does not tell.
pub fn cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    Ok(cpus.collect())
}

/// Lets all threads of the process and of all below it run on one CPU only, and those they start later.
///
/// # Errors
/// The process belongs to somebody else.
pub fn pin(pid: i32, cpu: usize) -> Result<()> {
    allow(pid, &[cpu])
}

/// Lets all threads of the process and of all below it run on these CPUs, and those they start later.
///
/// # Errors
/// The process belongs to somebody else.
pub fn allow(pid: i32, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    for thread in tree(pid).into_iter().flat_map(tasks) {
        let pinned = sched_setaffinity(Pid::from_raw(thread), &set);
        pinned.with_context(|| format!("cannot pin thread {thread} to CPUs {cpus:?}"))?;
    }
    Ok(())
}
