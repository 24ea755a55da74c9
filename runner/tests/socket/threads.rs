//! Calls on blocking threads.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plugin_runner::protocol::frame::kind;
use plugin_runner::rpc::server::Settings;

use crate::harness::{serve, serve_with, settings, wait_until};
use crate::service::{Event, PERMIT, THREAD};

#[test]
fn sleeping_calls_on_threads_delay_no_quick_call() {
    let running = serve_with(Settings {
        threads: 64,
        ..settings()
    });
    let mut sleeping: Vec<_> = (0..64).map(|_| running.connect()).collect();
    for gateway in &mut sleeping {
        gateway.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    }
    wait_until("all 64 sleep", || {
        running.fake.inside.load(Ordering::SeqCst) == 64
    });
    let started = Instant::now();
    running.connect().expect_to_work();
    assert!(started.elapsed() < Duration::from_millis(100));
    running.fake.gate(1).open();
    for gateway in &mut sleeping {
        gateway.expect(&[THREAD, 1]);
        gateway.expect_to_work();
    }
    assert_eq!(running.server.stuck(), 0);
}

#[test]
fn a_call_that_gets_no_thread_is_answered_at_its_deadline() {
    let running = serve_with(Settings {
        threads: 2,
        deadline: Duration::from_millis(150),
        ..settings()
    });
    let mut gateways: Vec<_> = (0..3).map(|_| running.connect()).collect();
    for gateway in &mut gateways {
        gateway.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    }
    for gateway in &mut gateways {
        gateway.expect_error();
    }
    // Two were in the plugin, the third never began.
    running.fake.wait_for(&Event::Expired(Some((2, 3))), 2);
    running.fake.wait_for(&Event::Expired(None), 1);
    assert_eq!(running.fake.inside.load(Ordering::SeqCst), 2);
    running.fake.gate(1).open();
    running.fake.wait_for(&Event::Finished(THREAD, false), 3);
    for gateway in &mut gateways {
        assert_eq!(gateway.call(&[THREAD, 1]).payload, [THREAD, 1]);
    }
}

#[test]
fn a_call_waits_for_its_permit_and_takes_no_thread_meanwhile() {
    let running = serve_with(Settings {
        threads: 2,
        ..settings()
    });
    let mut first = running.connect();
    first.send(kind::HTTP_REQ_CALL, &[PERMIT, 1]);
    wait_until("the first is in", || {
        running.fake.inside.load(Ordering::SeqCst) == 1
    });
    let mut second = running.connect();
    second.send(kind::HTTP_REQ_CALL, &[PERMIT, 1]);
    // Of the two threads one is free: the second call waits for its permit without it.
    running.fake.gate(2).open();
    assert_eq!(running.connect().call(&[THREAD, 2]).payload, [THREAD, 2]);
    assert_eq!(running.fake.inside.load(Ordering::SeqCst), 2);
    running.fake.gate(1).open();
    first.expect(&[PERMIT, 1]);
    second.expect(&[PERMIT, 1]);
}

#[test]
fn a_call_on_a_thread_survives_the_loss_of_its_loop() {
    let running = serve();
    let mut on_thread = running.connect();
    on_thread.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    wait_until("it is in", || {
        running.fake.inside.load(Ordering::SeqCst) == 1
    });
    let mut culprit = running.connect();
    culprit.send(kind::HTTP_REQ_CALL, &[crate::service::STUCK, 2]);
    wait_until("the loop is stuck", || running.server.stuck() == 1);
    running.fake.gate(1).open();
    on_thread.expect(&[THREAD, 1]);
    on_thread.expect_to_work();
    running.fake.gate(2).open();
    culprit.expect(&[crate::service::STUCK, 2]);
}
