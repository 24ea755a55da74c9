//! A machine on which others are busy, too: what they do is not put down to a plugin.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::gateway::Gateway;
use e2e::message::{Reply, Request};
use e2e::runner::{Runner, Setup};
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::alone;

/// How nice event loops are to the others: each wait for the processor takes longer than a loop may be held up.
const NICE: i32 = 5;

/// Connections that call at once.
const CONNECTIONS: usize = 8;

/// How long they are busy.
const BUSY: Duration = Duration::from_secs(3);

/// A chain that spends most of a call's time in plugin code.
const PLUGIN: (&str, &str) = ("bench-headers", "{}");
const CHAIN: usize = 50;

#[test]
fn a_plugin_is_not_slow_because_others_have_the_processor() {
    let _alone = alone();
    let all = sched_getaffinity(None).unwrap();
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.unwrap());
    // What is started now runs there: the runner, and somebody else beside it.
    sched_setaffinity(None, &one).unwrap();
    let runner = Setup::with(&["bench-headers"]).start();
    let stop = Arc::new(AtomicBool::new(false));
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[PLUGIN; CHAIN]);
    call(&mut gateway, token, 200);
    assert!(runs_on_the_loop(&runner, &mut gateway, token));
    let other = busy_until(&stop);
    sched_setaffinity(None, &all).unwrap();
    // So many that the loop is in a call whenever it loses the processor.
    let mut gateways: Vec<_> = (0..CONNECTIONS).map(|_| runner.gateway()).collect();
    let until = Instant::now() + BUSY;
    thread::scope(|scope| {
        for gateway in &mut gateways {
            scope.spawn(|| {
                while Instant::now() < until {
                    call(gateway, token, 20);
                }
            });
        }
        while Instant::now() < until {
            be_nice(runner.worker());
            thread::park_timeout(Duration::from_millis(5));
        }
    });
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
    // If it did have to try once more, it has done so now.
    call(&mut gateway, token, 200);
    assert!(runs_on_the_loop(&runner, &mut gateway, token));
}

fn busy_until(stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    })
}

/// Lets the process's event loops wait while others are busy. The watchdog, a thread as any other, sees them wait.
fn be_nice(pid: u32) {
    for (thread, name) in threads(pid) {
        if name.starts_with("loop-") {
            // One that has just ended needs nothing.
            let _ = setpriority_process(Pid::from_raw(thread), NICE);
        }
    }
}

/// The process's threads and their names.
fn threads(pid: u32) -> Vec<(i32, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let threads = threads.filter_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let number = thread.file_name().to_str()?.parse().ok()?;
        Some((number, name.trim().to_owned()))
    });
    threads.collect()
}

fn call(gateway: &mut Gateway, token: u32, times: usize) {
    let headers = [("host", "a"), ("user-agent", "b"), ("x-request-id", "1")];
    let request = headers
        .into_iter()
        .fold(Request::get("/"), |request, (name, value)| {
            request.header(name, value)
        });
    for _ in 0..times {
        let reply = gateway.request(token, &request);
        assert!(matches!(reply, Reply::Rewrite(_)), "{reply:?}");
    }
}

/// Whether a hundred calls left the threads alone that are for calls which may not run on the event loop.
fn runs_on_the_loop(runner: &Runner, gateway: &mut Gateway, token: u32) -> bool {
    let before = turns_of_threads(runner.worker());
    call(gateway, token, 100);
    // Each call there would be a turn.
    turns_of_threads(runner.worker()).abs_diff(before) < 50
}

/// How often the threads for such calls have been given a processor.
fn turns_of_threads(pid: u32) -> u64 {
    let of_calls = threads(pid).into_iter().filter(|(_, name)| name == "calls");
    let turns = of_calls.filter_map(|(thread, _)| {
        let times = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
        times.split_whitespace().nth(2)?.parse::<u64>().ok()
    });
    turns.sum()
}
