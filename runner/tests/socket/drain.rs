//! The end of a server: no call fails.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plugin_runner::protocol::frame::kind;

use crate::harness::{serve, wait_until};
use crate::service::{Event, NEEDS, STUCK, THREAD};

const WITHIN: Duration = Duration::from_secs(5);

#[test]
fn idle_connections_are_closed_at_once() {
    let running = serve();
    let mut gateways: Vec<_> = (0..10).map(|_| running.connect()).collect();
    for gateway in &mut gateways {
        gateway.expect_to_work();
    }
    let started = Instant::now();
    assert_eq!(running.server.drain(WITHIN).cut, 0);
    assert!(started.elapsed() < WITHIN / 2);
    for gateway in &mut gateways {
        assert_eq!(gateway.rest(), b"");
    }
}

#[test]
fn calls_in_flight_are_finished() {
    let running = serve();
    let mut stuck = running.connect();
    let mut on_thread = running.connect();
    let mut asking = running.connect();
    let mut half = running.connect();
    stuck.send(kind::HTTP_REQ_CALL, &[STUCK, 1]);
    on_thread.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    asking.send(kind::HTTP_REQ_CALL, &[NEEDS, 1]);
    assert_eq!(asking.receive().kind, kind::EXTRA_INFO);
    half.0.write_all(&[2, 0, 0, 4, b'e']).unwrap();
    wait_until("both are in", || {
        running.fake.inside.load(Ordering::SeqCst) == 2
    });
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| running.server.drain(WITHIN));
        half.0.write_all(b"cho").unwrap();
        half.expect(b"echo");
        asking.send(kind::EXTRA_INFO, b"answer");
        asking.expect(b"answer");
        running.fake.gate(1).open();
        stuck.expect(&[STUCK, 1]);
        on_thread.expect(&[THREAD, 1]);
        assert_eq!(drain.join().unwrap().cut, 0);
    });
    assert_eq!(running.server.connections(), 0);
    assert_eq!(half.rest(), b"");
}

#[test]
fn calls_that_wait_in_the_backlog_are_served() {
    let running = serve();
    let mut gateways: Vec<_> = (0..50).map(|_| running.connect()).collect();
    for gateway in &mut gateways {
        gateway.send(kind::HTTP_REQ_CALL, b"echo");
    }
    assert_eq!(running.server.drain(WITHIN).cut, 0);
    for gateway in &mut gateways {
        gateway.expect(b"echo");
        assert_eq!(gateway.rest(), b"");
    }
}

#[test]
fn what_is_left_when_the_time_is_up_gets_an_error() {
    let running = serve();
    let mut stuck = running.connect();
    let mut asking = running.connect();
    stuck.send(kind::HTTP_REQ_CALL, &[STUCK, 1]);
    asking.send(kind::HTTP_REQ_CALL, &[NEEDS, 1]);
    assert_eq!(asking.receive().kind, kind::EXTRA_INFO);
    wait_until("it is in", || {
        running.fake.inside.load(Ordering::SeqCst) == 1
    });
    let started = Instant::now();
    assert_eq!(running.server.drain(Duration::from_millis(200)).cut, 2);
    assert!(started.elapsed() < Duration::from_millis(600));
    stuck.expect_error();
    asking.expect_error();
    assert_eq!(stuck.rest(), b"");
    running.fake.gate(1).open();
    running.fake.wait_for(&Event::Finished(STUCK, false), 1);
    running.fake.wait_for(&Event::Finished(NEEDS, false), 1);
    wait_until("all connections gone", || running.server.connections() == 0);
}
