//! What a call costs does not depend on how many bindings there are.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::thread;

use e2e::bindings::{of, says, start};
use e2e::gateway::Gateway;
use e2e::message::{Question, Request};
use e2e::runner::Runner;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Calls of a turn: few, so that a pair of turns meets the same machine.
const CALLS: usize = 25;
/// Odd: the ratio in the middle counts.
const TURNS: usize = 41;

const ATTEMPTS: usize = 3;

/// A runner with some bindings, and a connection to it.
struct Bound {
    runner: Runner,
    gateway: Gateway,
    token: u32,
    /// Numbers the services that were never called before.
    service: usize,
}

impl Bound {
    #[track_caller]
    fn new(count: usize) -> Self {
        // Each route has its own; one names a service, so that calls have to find out theirs.
        let one = |n: usize| says(&format!("'{n}'"), &format!("    scope: {{route: r{n}}}\n"));
        let mut bindings: String = (0..count - 1).map(one).collect();
        bindings += &says("none", "    scope: {route: nowhere, service: s}\n");
        let runner = start(&bindings);
        let mut gateway = of(&runner, "r7", "s");
        let token = gateway.prepare(&[]);
        Self {
            runner,
            gateway,
            token,
            service: 0,
        }
    }

    /// Processor time of the worker for a turn of calls, in nanoseconds.
    fn turn(&mut self, new_services: bool) -> f64 {
        let worker = self.runner.worker();
        let before = processor_time(worker);
        for _ in 0..CALLS {
            if new_services {
                self.service += 1;
                let question = Question::Variable("service_id".to_owned());
                let service = self.service.to_string().into_bytes();
                self.gateway.facts.insert(question, service);
            }
            let reply = self.gateway.request(self.token, &Request::get("/"));
            assert_eq!(reply.text(), "7");
        }
        spent(&before, &processor_time(worker)) as f64
    }
}

/// Nanoseconds for which each of the process's threads has run: what other processes do hardly matters to it.
fn processor_time(pid: u32) -> HashMap<OsString, u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let times = threads.flatten().filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let time = text.split_whitespace().next()?.parse().ok()?;
        Some((thread.file_name(), time))
    });
    times.collect()
}

/// What the threads that are still there have run since `before`.
fn spent(before: &HashMap<OsString, u64>, after: &HashMap<OsString, u64>) -> u64 {
    let since = |(thread, time): (&OsString, &u64)| time - before.get(thread).unwrap_or(&0);
    after.iter().map(since).sum()
}

/// How much more the second costs than the first, in turns beside each other.
fn ratio(few: &mut Bound, many: &mut Bound, new_services: bool) -> f64 {
    let turn = |_| many.turn(new_services) / few.turn(new_services);
    let mut ratios: Vec<f64> = (0..TURNS).map(turn).collect();
    ratios.sort_by(f64::total_cmp);
    ratios[TURNS / 2]
}

/// Keeps the threads of these processes, and this thread, on one processor. A call that wakes a thread on another one costs
/// two to three times as much, and who of two runners has to is the scheduler's whim.
fn stay_on_one_processor(workers: [u32; 2]) {
    let mine = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|processor| mine.is_set(*processor));
    let mut one = CpuSet::new();
    one.set(first.unwrap());
    sched_setaffinity(None, &one).unwrap();
    let mut moved = HashSet::new();
    // What a thread starts later stays where it is; so once there is nothing new, there will be nothing elsewhere.
    loop {
        let threads = workers.into_iter().flat_map(threads);
        let new: Vec<_> = threads.filter(|thread| moved.insert(*thread)).collect();
        if new.is_empty() {
            return;
        }
        for thread in new {
            // It may have ended.
            let _ = sched_setaffinity(Some(thread), &one);
        }
    }
}

fn threads(pid: u32) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let id = |thread: fs::DirEntry| thread.file_name().to_str()?.parse().ok();
    threads.filter_map(id).filter_map(Pid::from_raw).collect()
}

fn compare() {
    let (mut few, mut many) = (Bound::new(10), Bound::new(10_000));
    stay_on_one_processor([&few, &many].map(|bound| bound.runner.worker()));
    // With a plan that is kept, and with one that has to be made: each call comes from a service of its own.
    for new_services in [false, true] {
        // What else runs on the machine only ever adds to it.
        let attempts = (0..ATTEMPTS).map(|_| ratio(&mut few, &mut many, new_services));
        let ratio = attempts.reduce(f64::min).unwrap();
        assert!(
            ratio < 1.5,
            "{ratio:.2} times the processor time, new services: {new_services}"
        );
    }
}

#[test]
fn ten_thousand_bindings_cost_a_call_as_much_as_ten() {
    let _alone = crate::alone();
    // The test's own thread may be the harness's, which has other tests to run.
    let compared = thread::spawn(compare).join();
    compared.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
