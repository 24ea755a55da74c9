//! Many, large, slow and few: memory stays bounded, no connection gets stuck, the log stays clear. Sizes are small enough
//! for every run; `E2E_LOAD=whole cargo test -p e2e --test e2e load:: -- --test-threads=1` has the real ones, and prints
//! what it measured.

use std::time::Instant;

use e2e::gateway::{Gateway, frame};
use e2e::load::{cpu_ms, descriptors, figure, forget_peak, memory, size};
use e2e::message::PREPARE_CONF;
use e2e::message::{
    EXTRA_INFO, HTTP_REQ_CALL, Reply, Request, answer_payload, prepare_payload, read_token,
};
use e2e::runner::{Runner, Setup};
use e2e::{skipped, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const STOP: [(&str, &str); 1] = [("stop", r#"{"body": "ok"}"#)];
const ECHO_BODY: [(&str, &str); 1] = [("do", r#"{"echo": "body"}"#)];

/// Lets the tests themselves open this many files; `false` when the system says no.
fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= files);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    enough && setrlimit(Resource::Nofile, raised).is_ok()
}

/// Nothing was logged that somebody would have to look at.
#[track_caller]
fn log_is_clear(runner: &Runner) {
    let lines = runner.log().lines();
    // The machine of the tests may be busy with others.
    let loud = |line: &&String| {
        let words = [" WARN ", " ERROR ", "panicked"];
        words.iter().any(|word| line.contains(word)) && !line.contains("the machine is overloaded")
    };
    assert_eq!(lines.iter().find(loud), None);
    assert!(lines.len() < 40, "{} lines", lines.len());
}

/// The worker's memory falls back to this many megabytes, and its descriptors to what they were.
#[track_caller]
fn all_is_given_back(runner: &Runner, megabytes: usize, files: usize) {
    let worker = runner.worker();
    wait::until("all connections are gone", || {
        (descriptors(worker) <= files + 2).then_some(())
    });
    wait::until("the memory is given back", || {
        (memory(worker).0 <= megabytes).then_some(())
    });
}

#[test]
fn five_thousand_connections_are_served_in_a_few_kilobytes_each() {
    const CONNECTIONS: usize = 5_000;
    if !may_open(CONNECTIONS as u64 + 2_000) {
        return skipped("the hard limit of open files is below 7,000");
    }
    // The soft limit that most systems start a service with.
    let runner = Setup::with(&["stop"])
        .wrapped(&["prlimit", "--nofile=1024:"])
        .start();
    let token = runner.gateway().prepare(&STOP);
    let worker = runner.worker();
    let (before, files) = (memory(worker).0, descriptors(worker));
    let started = Instant::now();
    let mut gateways: Vec<_> = (0..CONNECTIONS).map(|_| runner.gateway()).collect();
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    for gateway in &mut gateways {
        gateway.write(&call);
    }
    for gateway in gateways.iter_mut().rev() {
        assert_eq!(gateway.receive().reply().text(), "ok");
    }
    let grown = memory(worker).1.saturating_sub(before);
    figure(&format!(
        "{CONNECTIONS} connections: {grown} MB more, {:?}",
        started.elapsed()
    ));
    assert!(grown < 60, "{grown} MB for {CONNECTIONS} connections");
    drop(gateways);
    all_is_given_back(&runner, before + 50, files);
    log_is_clear(&runner);
}

#[test]
fn three_hundred_headers_are_read_and_changed() {
    let runner = Runner::with(&["do"]);
    let mut gateway = runner.gateway();
    let mut request = Request::get("/");
    for number in 0..300 {
        request = request.header(&format!("x-header-{number}"), &"v".repeat(200));
    }
    let change = r#"{"rewrite": {"headers": [["x-header-7", "changed"], ["x-header-8", null]]}}"#;
    let echo = gateway.prepare(&[("do", r#"{"echo": "request"}"#)]);
    let change = gateway.prepare(&[("do", change)]);
    let worker = runner.worker();
    let started = Instant::now();
    let calls = size(200, 20_000);
    for call in 0..calls {
        if call == 100 {
            forget_peak(worker);
        }
        assert_eq!(gateway.request(change, &request).rewrite().headers.len(), 2);
    }
    let (now, peak) = memory(worker);
    figure(&format!(
        "{calls} calls with 300 headers: {now} MB, {:?}",
        started.elapsed()
    ));
    assert!(peak <= now + 5, "it grew from {now} to {peak} MB");
    let seen = gateway.request(echo, &request).text();
    assert_eq!(
        seen.lines()
            .filter(|line| line.contains("header x-header-"))
            .count(),
        300
    );
    log_is_clear(&runner);
}

#[test]
fn the_largest_bodies_of_many_clients_at_once_take_memory_once_and_give_it_back() {
    let clients = size(8, 64);
    let runner = Setup::with(&["do", "stop"])
        .config("calls:\n  deadline: 60s\n")
        .start();
    let worker = runner.worker();
    let token = runner.gateway().prepare(&ECHO_BODY);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let (before, files) = (memory(worker).0, descriptors(worker));
    // As large as fits into a frame together with what is around it, both ways.
    let body = vec![b'z'; (1 << 24) - 100];
    let answer = frame(EXTRA_INFO, &answer_payload(Some(&body)));
    let started = Instant::now();
    for round in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    let mut gateway = runner.gateway().patient();
                    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
                    assert_eq!(gateway.receive().kind, EXTRA_INFO);
                    gateway.write(&answer);
                    assert!(gateway.receive().reply().answer().body == body);
                });
            }
        });
        let (now, peak) = memory(worker);
        figure(&format!(
            "{clients} bodies of 16 MiB, round {round}: peak {peak} MB, then {now} MB"
        ));
        // The body, the plugin's copy and the reply, each for a while.
        let bound = before + clients * 4 * 16 + 50;
        assert!(peak < bound, "{peak} MB, more than {bound}");
        all_is_given_back(&runner, before + 100, files);
    }
    figure(&format!(
        "{clients} bodies of 16 MiB, twice: {:?}",
        started.elapsed()
    ));
    log_is_clear(&runner);
}

#[test]
fn configurations_without_end_take_a_bounded_place_each_and_go_on_serving() {
    let confs = size(3_000, 100_000);
    let runner = Runner::with(&["stop"]);
    let worker = runner.worker();
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&STOP).text(), "ok");
    let before = (memory(worker).0, memory(runner.pid()).0);
    let started = Instant::now();
    let mut prepare = |number: usize| {
        let conf = format!(r#"{{"body": "number {number}"}}"#);
        let key = format!("route#{number}#ext-plugin-pre-req#1");
        gateway.send(PREPARE_CONF, &prepare_payload(&key, &[("stop", &conf)]));
        read_token(&gateway.receive().payload).expect("a token")
    };
    let tokens: Vec<_> = (0..confs).map(&mut prepare).collect();
    let took = started.elapsed();
    // Once more, as after a flush: the same tokens, and nothing new to keep.
    let again: Vec<_> = (0..confs).step_by(10).map(&mut prepare).collect();
    assert!(again.iter().eq(tokens.iter().step_by(10)));
    let mut sorted = tokens.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), confs, "two configurations have one token");
    for number in (0..confs).step_by(97) {
        let reply = gateway.request(tokens[number], &Request::get("/"));
        assert_eq!(reply.text(), format!("number {number}"));
    }
    let now = (memory(worker).0, memory(runner.pid()).0);
    let grown = (
        now.0.saturating_sub(before.0),
        now.1.saturating_sub(before.1),
    );
    figure(&format!(
        "{confs} PREPARE_CONFs: worker {} MB and supervisor {} MB more, {took:?}",
        grown.0, grown.1
    ));
    // Measured at 100,000: 1,400 bytes in the worker and 430 in the supervisor for each, in a debug build.
    let bound = |bytes: usize| 25 + confs * bytes / 1_000_000;
    assert!(
        grown.0 < bound(2_000) && grown.1 < bound(700),
        "{grown:?} MB"
    );
    log_is_clear(&runner);
}

#[test]
fn readers_and_writers_that_are_slow_keep_nobody_waiting_and_lose_nothing() {
    let slow = size(40, 400);
    let runner = Runner::with(&["do", "stop"]);
    let worker = runner.worker();
    let mut quick = runner.gateway();
    let (token, large) = (quick.prepare(&STOP), quick.prepare(&ECHO_BODY));
    assert_eq!(quick.request(token, &Request::get("/")).text(), "ok");
    let (before, files) = (memory(worker).0, descriptors(worker));
    let body = "y".repeat(1 << 20);
    let mut readers: Vec<_> = (0..slow)
        .map(|_| {
            let mut gateway = runner.gateway();
            gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(large));
            assert_eq!(gateway.receive().kind, EXTRA_INFO);
            gateway.send(EXTRA_INFO, &answer_payload(Some(body.as_bytes())));
            gateway // and reads nothing
        })
        .collect();
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let mut writers: Vec<_> = (0..slow).map(|_| runner.gateway()).collect();
    let mut worst = 0;
    for byte in &call {
        for writer in &mut writers {
            writer.write(&[*byte]);
        }
        let started = Instant::now();
        assert_eq!(quick.request(token, &Request::get("/")).text(), "ok");
        worst = worst.max(started.elapsed().as_millis());
    }
    // 10 ms on a quiet machine; the tests run beside each other.
    assert!(worst < 500, "another connection waited {worst} ms");
    for writer in &mut writers {
        assert_eq!(writer.receive().reply().text(), "ok");
    }
    let (now, peak) = memory(worker);
    figure(&format!(
        "{slow} slow readers of 1 MiB: {now} MB, peak {peak} MB, others waited {worst} ms"
    ));
    assert!(
        now < before + 4 * slow + 40,
        "{now} MB for {slow} readers of 1 MiB"
    );
    for reader in &mut readers {
        assert!(reader.receive().reply().text() == body);
    }
    drop((readers, writers));
    all_is_given_back(&runner, before + 60, files);
    log_is_clear(&runner);
}

#[test]
fn connections_that_are_half_closed_are_closed_whole() {
    let runner = Runner::with(&["do", "stop", "asking"]);
    let worker = runner.worker();
    let token = runner.gateway().prepare(&STOP);
    let asks = runner.gateway().prepare(&[("asking", "{}")]);
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let files = descriptors(worker);
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let question = frame(HTTP_REQ_CALL, &Request::get("/").payload(asks));
    let mut kept: Vec<Gateway> = Vec::new();
    for number in 0..size(200, 2_000) {
        let mut gateway = runner.gateway();
        match number % 5 {
            0 => {}
            1 => gateway.write(&call[..number % call.len()]),
            2 => {
                gateway.write(&call);
                assert_eq!(gateway.receive().reply().text(), "ok");
            }
            3 => gateway.write(&question),
            _ => {
                gateway.write(&question);
                gateway.receive();
            }
        }
        match number % 2 {
            0 => gateway.stop_sending(),
            _ => gateway.stop_receiving(),
        }
        kept.push(gateway);
    }
    // Those that only stop reading are noticed when something is written to them, or when they close.
    let (stopped_sending, mut stopped_reading): (Vec<_>, Vec<_>) = kept
        .into_iter()
        .enumerate()
        .partition(|(number, _)| number % 2 == 0);
    for (number, gateway) in &mut stopped_reading {
        // Not into the middle of a frame, or of an exchange.
        if [0, 2].contains(&(*number % 5)) {
            gateway.try_write(&call);
        }
    }
    for (number, mut gateway) in stopped_sending {
        while let Ok(Some(frame)) = gateway.try_receive() {
            let answered = frame.kind == EXTRA_INFO
                || matches!(frame.reply(), Reply::Error(_) | Reply::Stop(_));
            assert!(answered, "connection {number}");
        }
    }
    drop(stopped_reading);
    wait::until("all connections are gone", || {
        (descriptors(worker) <= files + 2).then_some(())
    });
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    log_is_clear(&runner);
}

#[test]
fn out_of_descriptors_connections_wait_and_the_log_says_so_once() {
    let setup = Setup::with(&["stop", "do"]).wrapped(&["prlimit", "--nofile=256:256"]);
    let runner = setup.start();
    let worker = runner.worker();
    let mut first = runner.gateway();
    let (token, large) = (first.prepare(&STOP), first.prepare(&ECHO_BODY));
    assert_eq!(first.request(token, &Request::get("/")).text(), "ok");
    let call = frame(HTTP_REQ_CALL, &Request::get("/").payload(token));
    let mut gateways: Vec<_> = (0..400).map(|_| runner.gateway()).collect();
    for gateway in &mut gateways {
        gateway.write(&call);
    }
    runner
        .log()
        .wait_for(&["cannot be accepted", "limit of open files"]);
    // Those that were accepted are served meanwhile, also with a reply that does not fit into the socket at once.
    let body = "y".repeat(4 << 20);
    first
        .facts
        .insert(e2e::message::Question::RequestBody, body.clone().into());
    let (cpu, started) = (cpu_ms(worker), Instant::now());
    while started.elapsed().as_millis() < 500 {
        assert!(first.request(large, &Request::get("/")).text() == body);
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
    let (spent, elapsed) = (cpu_ms(worker) - cpu, started.elapsed().as_millis() as u64);
    figure(&format!(
        "out of descriptors: {spent} ms of processor time in {elapsed} ms"
    ));
    // Who closes makes room for who waits.
    for mut gateway in gateways {
        assert_eq!(gateway.receive().reply().text(), "ok");
    }
    assert_eq!(runner.gateway().get(&STOP).text(), "ok");
    let lines = runner.log().with("cannot be accepted").len();
    assert!(lines <= 3, "{lines} lines about one cause");
    assert!(runner.log().with("ERROR").len() <= lines);
}
