//! A new worker takes over from the one that serves: no call fails, no connection is closed, nothing is forgotten.

use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::gateway::{Gateway, frame};
use e2e::message::{HTTP_REQ_CALL, Reply, Request};
use e2e::runner::{Runner, Setup, is_alive, signal_process};
use e2e::wait;
use rustix::process::Signal;

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[track_caller]
fn recycle(runner: &Runner) -> String {
    let output = runner.command(&["reload", "--recycle"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    text
}

/// Calls on many connections, in pieces, one after the other on each, until it is told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

impl Load {
    /// One connection's calls.
    fn run(&self, mut gateway: Gateway, token: u32, body: &str) {
        let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
        for number in 0.. {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            // Cut elsewhere each time: in the header, in the payload, right behind it.
            let (start, rest) = call.split_at(1 + number % call.len());
            gateway.write(start);
            gateway.write(rest);
            match gateway.try_receive() {
                Ok(Some(reply)) if reply.reply().answer().text() == body => {}
                other => return self.faults.lock().unwrap().push(format!("{other:?}")),
            }
            self.calls.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Runs `meanwhile` while `connections` are at work; no call of them may fail.
    fn during<T>(&self, runner: &Runner, connections: usize, meanwhile: impl FnOnce() -> T) -> T {
        let token = runner.gateway().prepare(&STOP);
        let gateways: Vec<_> = (0..connections).map(|_| runner.gateway()).collect();
        let done = std::thread::scope(|scope| {
            for gateway in gateways {
                scope.spawn(move || self.run(gateway, token, "ok"));
            }
            wait::until("calls are made", || {
                (self.calls() > connections).then_some(())
            });
            let stop = Stop(&self.stop);
            let done = meanwhile();
            let calls = self.calls();
            wait::until("more calls are made", || {
                (self.calls() > calls + connections).then_some(())
            });
            drop(stop);
            done
        });
        assert_eq!(*self.faults.lock().unwrap(), [""; 0]);
        done
    }
}

/// Ends the load also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Open descriptors and resident kilobytes of the supervisor.
fn supervisor(runner: &Runner) -> (usize, usize) {
    let pid = runner.pid();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    (descriptors, kilobytes.parse().unwrap())
}

#[test]
fn under_load_recycles_fail_no_call_and_close_no_connection_and_leave_nothing_behind() {
    let runner = Runner::with(&["stop"]);
    let mut idle: Vec<_> = (0..64).map(|_| runner.gateway()).collect();
    let token = idle[0].prepare(&STOP);
    let first = runner.worker();
    Load::default().during(&runner, 16, || {
        recycle(&runner);
        recycle(&runner);
        let (descriptors, kilobytes) = supervisor(&runner);
        for _ in 0..18 {
            let text = recycle(&runner);
            assert!(text.contains("has handed over 8"), "80 connections: {text}");
        }
        // The pipes of the last worker end a moment after it.
        wait::until("no descriptor is left", || {
            (supervisor(&runner).0 <= descriptors).then_some(())
        });
        let after = supervisor(&runner).1;
        assert!(after <= kilobytes + 2048, "{kilobytes} kB, then {after}");
    });
    assert_ne!(runner.worker(), first);
    assert_eq!(runner.children(), [runner.worker()]);
    for gateway in &mut idle {
        assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
    }
    let status = said(&runner.command(&["status"]));
    assert!(status.contains("recycled 20 times; last in "), "{status}");
}

#[test]
fn a_call_that_hangs_holds_up_its_own_connection_until_its_deadline() {
    let setup = Setup::with(&["stop", "misbehaving"]).config("calls:\n  deadline: 2s\n");
    let runner = setup.start();
    let old = runner.worker();
    let mut hanging = runner.gateway();
    let token = hanging.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 60000}"#)]);
    hanging.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    Load::default().during(&runner, 4, || {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| recycle(&runner));
            runner
                .log()
                .wait_for(&["worker 2 serves instead of worker 1"]);
            let status = said(&runner.command(&["status"]));
            assert!(status.contains("number 1, up"), "{status}");
            assert!(status.contains("finishes its calls"), "{status}");
            let late = hanging.receive_reply().reply();
            assert!(matches!(late, Reply::Error(_)), "{late:?}");
            let text = asked.join().unwrap();
            assert!(
                text.contains("worker 1 has handed over 5 connections"),
                "{text}"
            );
        });
    });
    assert_eq!(hanging.get(&STOP).text(), "ok");
    wait::until("the old worker is gone", || (!is_alive(old)).then_some(()));
}

#[test]
fn an_old_worker_that_dies_while_it_finishes_costs_one_call_and_names_the_plugin() {
    let runner = Runner::with(&["stop", "misbehaving"]);
    let old = runner.worker();
    let mut idle = runner.gateway();
    let stop = idle.prepare(&STOP);
    let mut busy = runner.gateway();
    let modes = [r#"{"mode": "log"}"#, r#"{"mode": "sleep", "ms": 60000}"#];
    let token = busy.prepare(&modes.map(|mode| ("misbehaving", mode)));
    busy.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    runner.log().wait_for(&["said with log"]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| runner.command(&["reload", "--recycle"]));
        runner
            .log()
            .wait_for(&["worker 2 serves instead of worker 1"]);
        // From now on the old worker has nothing but the call that does not end.
        assert_eq!(idle.request(stop, &Request::get("/")).text(), "ok");
        wait::until("the other connection is handed over", || {
            let status = said(&runner.command(&["status"]));
            status.contains("1 connection").then_some(())
        });
        signal_process(old, Signal::KILL);
        assert!(busy.is_closed());
        let text = said(&asked.join().unwrap());
        let told = "worker 1 ended before it had finished its calls";
        assert!(text.contains(told), "{text}");
    });
    let said = ["it ran when the worker ended", "misbehaving", "access"];
    runner.log().wait_for(&said);
    assert_eq!(runner.log().with("a new one takes its place"), [""; 0]);
    assert_eq!(idle.request(stop, &Request::get("/")).text(), "ok");
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
}

#[test]
fn what_changes_during_a_recycle_is_not_lost() {
    let setup = Setup::with(&["stop", "misbehaving"]);
    let runner = setup
        .config("plugins:\n  settings: {misbehaving: {init: slow}}\n")
        .start();
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| recycle(&runner));
        runner.log().wait_for(&["worker 2 is to take over"]);
        // Before the new worker is ready: prepared in the old one.
        let token = gateway.prepare(&STOP);
        runner.lay_mark("the-next-of-them");
        runner
            .log()
            .wait_for(&["misbehaving", "serves: generation 3"]);
        assert_eq!(gateway.get(&MARK).text(), "the-next-of-them");
        asked.join().unwrap();
        assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
    });
    assert_eq!(gateway.get(&MARK).text(), "the-next-of-them");
    assert_eq!(runner.gateway().get(&MARK).text(), "the-next-of-them");
    // And a token that a new worker has given serves on old connections.
    let mut fresh = runner.gateway();
    let token = fresh.prepare(&[("stop", r#"{"body": "fresh"}"#)]);
    assert_eq!(gateway.request(token, &Request::get("/")).text(), "fresh");
}

#[test]
fn a_new_worker_that_cannot_start_changes_nothing_but_the_log() {
    let name = format!("plugin-runner-test-{}", std::process::id());
    let settings =
        format!("plugins:\n  settings: {{misbehaving: {{init: exclusive, name: {name}}}}}\n");
    let runner = Setup::with(&["stop", "misbehaving"])
        .config(&settings)
        .start();
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    let worker = runner.worker();
    Load::default().during(&runner, 4, || {
        let output = runner.command(&["reload", "--recycle"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for part in [
            "worker 2 has not taken over",
            "misbehaving",
            "goes on serving",
        ] {
            assert!(text.contains(part), "{text}");
        }
    });
    runner
        .log()
        .wait_for(&["worker 2 has not taken over: it could not load"]);
    assert_eq!(gateway.get(&MARK).text(), "mark-of-the-file");
    assert_eq!(runner.worker(), worker);
    let status = said(&runner.command(&["status"]));
    assert!(
        status.contains("recycled 0 times, and 1 time in vain"),
        "{status}"
    );
}

#[test]
fn a_worker_that_dies_while_it_hands_over_or_is_handed_to_costs_no_more_than_a_crash() {
    let runner = Runner::with(&["stop", "misbehaving"]);
    let mut gateway = runner.gateway();
    let mut hanging = runner.gateway();
    let token = hanging.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 60000}"#)]);
    hanging.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    gateway.get(&STOP);
    let old = runner.worker();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| runner.command(&["reload", "--recycle"]));
        runner
            .log()
            .wait_for(&["worker 2 serves instead of worker 1"]);
        wait::until("it has the connection", || {
            let status = said(&runner.command(&["status"]));
            status.contains("1 connection").then_some(())
        });
        signal_process(old, Signal::KILL);
        let output = asked.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains("worker 1 ended before it had finished its calls"));
    });
    assert!(hanging.is_closed());
    assert_eq!(gateway.get(&STOP).text(), "ok");
    // The other way round: who takes over dies, and the call is answered by who has it.
    let mut waking = runner.gateway();
    let token = waking.prepare(&[("misbehaving", r#"{"mode": "sleep", "ms": 3000}"#)]);
    waking.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    wait::until("it sleeps", || {
        let status = said(&runner.command(&["status"]));
        status.contains("2 connections").then_some(())
    });
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| recycle(&runner));
        runner
            .log()
            .wait_for(&["worker 3 serves instead of worker 2"]);
        let second = runner.children().into_iter().max();
        signal_process(second.unwrap(), Signal::KILL);
        assert_eq!(waking.receive_reply().reply().text(), "awake");
        assert!(asked.join().unwrap().contains("worker 2 has handed over"));
    });
    assert_eq!(waking.get(&STOP).text(), "ok");
}

#[test]
fn too_many_replaced_builds_recycle_the_worker_and_never_in_a_loop() {
    let setup = Setup::with(&["stop", "misbehaving"])
        .config("worker:\n  recycle_generations: 2\n  recycle_interval: 1h\n");
    let runner = setup.start();
    Load::default().during(&runner, 4, || {
        for (number, mark) in ["mark-number-two-", "mark-number-thre", "mark-number-four"]
            .iter()
            .enumerate()
        {
            runner.lay_mark(mark);
            let generation = format!("serves: generation {}", number + 3);
            runner.log().wait_for(&["misbehaving", &generation]);
        }
        let reason = ["worker 2 serves instead of worker 1", "replaced builds"];
        runner.log().wait_for(&reason);
    });
    assert_eq!(runner.gateway().get(&MARK).text(), "mark-number-four");
}

#[test]
fn too_much_memory_recycles_the_worker() {
    let config = "worker:\n  recycle_memory: 160MiB\n  recycle_interval: 1h\n";
    let runner = Setup::with(&["stop", "misbehaving"]).config(config).start();
    let mut gateway = runner.gateway();
    for _ in 0..3 {
        gateway.get(&[("misbehaving", r#"{"mode": "leak"}"#)]);
    }
    runner
        .log()
        .wait_for(&["worker 2 serves instead of worker 1", "MiB of memory"]);
    assert_eq!(gateway.get(&STOP).text(), "ok");
}

#[test]
fn too_many_stuck_threads_recycle_the_worker_by_force() {
    let config =
        "calls:\n  deadline: 300ms\nworker:\n  recycle_stuck_threads: 3\n  recycle_interval: 1h\n";
    let runner = Setup::with(&["stop", "misbehaving"]).config(config).start();
    let old = runner.worker();
    let mut gateways: Vec<_> = (0..3).map(|_| runner.gateway()).collect();
    for gateway in &mut gateways {
        let reply = gateway.get(&[("misbehaving", r#"{"mode": "sleep", "ms": 600000}"#)]);
        assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
    }
    Load::default().during(&runner, 4, || {
        let said = ["worker 2 serves instead of worker 1", "threads hang"];
        runner.log().wait_for(&said);
        wait::until("the old worker is gone", || (!is_alive(old)).then_some(()));
    });
    runner
        .log()
        .wait_for(&["it ran when the worker ended", "misbehaving"]);
    for gateway in &mut gateways {
        assert_eq!(gateway.get(&STOP).text(), "ok");
    }
}

/// Figures for people: `cargo test -p e2e --test e2e what_a_recycle_costs -- --ignored --nocapture`.
#[test]
#[ignore = "it measures, which needs a quiet machine"]
fn what_a_recycle_costs() {
    let runner = Runner::with(&["stop"]);
    for connections in [64, 5000] {
        let mut idle: Vec<_> = (0..connections).map(|_| runner.gateway()).collect();
        let token = idle[0].prepare(&STOP);
        for _ in 0..3 {
            e2e::say(&recycle(&runner));
        }
        for gateway in &mut idle {
            assert_eq!(gateway.request(token, &Request::get("/")).text(), "ok");
        }
        for line in runner.log().with("has handed over") {
            e2e::say(&line);
        }
    }
    let token = runner.gateway().prepare(&STOP);
    for (what, recycles) in [("quiet", 0), ("with 10 recycles", 10)] {
        let stop = AtomicBool::new(false);
        let times = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let mut gateway = runner.gateway();
                let (stop, times) = (&stop, &times);
                scope.spawn(move || {
                    let mut own = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let began = std::time::Instant::now();
                        let reply = gateway.request(token, &Request::get("/"));
                        assert_eq!(reply.text(), "ok");
                        own.push(began.elapsed());
                    }
                    times.lock().unwrap().extend(own);
                });
            }
            let stop = Stop(&stop);
            (0..recycles).for_each(|_| drop(recycle(&runner)));
            if recycles == 0 {
                std::thread::park_timeout(std::time::Duration::from_secs(2));
            }
            drop(stop);
        });
        let mut times = times.into_inner().unwrap();
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (p50, p99, longest) = (at(0.5), at(0.99), at(1.0));
        let calls = times.len();
        e2e::say(&format!(
            "{what}: {calls} calls, p50 {p50:?}, p99 {p99:?}, longest {longest:?}"
        ));
    }
}
