//! A call that holds up its event loop: nobody else waits, and it is answered by its deadline.

use std::time::{Duration, Instant};

use plugin_runner::protocol::frame::kind;

use crate::harness::{Gateway, Running, serve, serve_with_deadline, wait_until};
use crate::service::{BRIEF, Event, STUCK};

/// Generous: the machine that runs the tests is busy with other tests. Alone, the figure is below 10 ms, and a loop
/// that is not replaced makes it seconds.
const LATE: Duration = Duration::from_millis(250);

/// Sends a call on every connection, and returns the longest that one of them took.
fn longest(gateways: &mut [Gateway]) -> Duration {
    let started = Instant::now();
    for gateway in gateways.iter_mut() {
        gateway.send(kind::HTTP_REQ_CALL, b"echo");
    }
    for gateway in gateways.iter_mut() {
        gateway.expect(b"echo");
    }
    started.elapsed()
}

fn stick(running: &Running, gateway: &mut Gateway, gate: u8) {
    let before = running
        .fake
        .inside
        .load(std::sync::atomic::Ordering::SeqCst);
    gateway.send(kind::HTTP_REQ_CALL, &[STUCK, gate]);
    wait_until("the call is in its plugin", || {
        running
            .fake
            .inside
            .load(std::sync::atomic::Ordering::SeqCst)
            > before
    });
}

#[test]
fn a_stuck_call_delays_no_other_connection() {
    let running = serve();
    let mut gateways: Vec<_> = (0..50).map(|_| running.connect()).collect();
    longest(&mut gateways);
    let mut culprit = running.connect();
    stick(&running, &mut culprit, 1);
    let first = longest(&mut gateways);
    let mut later = Duration::ZERO;
    for _ in 0..100 {
        later = later.max(longest(&mut gateways));
    }
    let connecting = Instant::now();
    running.connect().expect_to_work();
    let connecting = connecting.elapsed();
    println!(
        "50 calls when a loop is stuck: {first:?}, later: {later:?}, a new connection: {connecting:?}"
    );
    assert!(first < LATE && later < LATE && connecting < LATE);
    running.fake.wait_for(&Event::Slow(Some((2, 3))), 1);
    assert_eq!(running.server.stuck(), 1);

    running.fake.gate(1).open();
    culprit.expect(&[STUCK, 1]);
    culprit.expect_to_work();
    running.fake.wait_for(&Event::Finished(STUCK, true), 1);
    wait_until("the stuck loop has ended", || running.server.stuck() == 0);
    assert!(longest(&mut gateways) < LATE);
}

#[test]
fn a_stuck_call_is_answered_at_its_deadline_and_its_late_answer_goes_nowhere() {
    let deadline = Duration::from_millis(150);
    let running = serve_with_deadline(deadline);
    let mut culprit = running.connect();
    let started = Instant::now();
    stick(&running, &mut culprit, 1);
    culprit.expect_error();
    let took = started.elapsed();
    println!("a deadline of {deadline:?} was kept after {took:?}");
    assert!(took >= deadline && took < deadline + LATE);
    running.fake.wait_for(&Event::Expired(Some((2, 3))), 1);

    // The connection serves other calls while the first one is still stuck.
    culprit.expect_to_work();
    assert_eq!(running.server.stuck(), 1);
    running.fake.gate(1).open();
    running.fake.wait_for(&Event::Finished(STUCK, false), 1);
    wait_until("the stuck loop has ended", || running.server.stuck() == 0);
    culprit.expect_to_work();
}

#[test]
fn two_stuck_calls_at_once_delay_no_other_connection() {
    let running = serve();
    let mut gateways: Vec<_> = (0..20).map(|_| running.connect()).collect();
    longest(&mut gateways);
    let mut culprits: Vec<_> = (0..2).map(|_| running.connect()).collect();
    longest(&mut culprits); // both are accepted
    stick(&running, &mut culprits[0], 0);
    culprits[1].send(kind::HTTP_REQ_CALL, &[STUCK, 1]);
    let took = longest(&mut gateways);
    println!("20 calls when two loops are stuck: {took:?}");
    assert!(took < LATE);
    wait_until("both are stuck", || running.server.stuck() == 2);
    for (gate, culprit) in culprits.iter_mut().enumerate() {
        running.fake.gate(gate as u8).open();
        culprit.expect(&[STUCK, gate as u8]);
        culprit.expect_to_work();
    }
    wait_until("both have ended", || running.server.stuck() == 0);
}

#[test]
fn a_frame_that_has_half_arrived_is_finished_on_the_fresh_loop() {
    use std::io::Write;
    let running = serve();
    let mut half = running.connect();
    half.0.write_all(&[2, 0, 0, 4, b'e']).unwrap();
    running.connect().expect_to_work();
    let mut culprit = running.connect();
    stick(&running, &mut culprit, 1);
    half.0.write_all(b"cho").unwrap();
    half.expect(b"echo");
    running.fake.gate(1).open();
    culprit.expect(&[STUCK, 1]);
}

#[test]
fn a_call_in_the_middle_of_its_questions_goes_on_on_the_fresh_loop() {
    let running = serve();
    let mut asking = running.connect();
    asking.send(kind::HTTP_REQ_CALL, &[crate::service::NEEDS, 2]);
    asking.receive();
    asking.receive();
    let mut culprit = running.connect();
    stick(&running, &mut culprit, 1);
    asking.send(kind::EXTRA_INFO, b"one ");
    asking.send(kind::EXTRA_INFO, b"two");
    asking.expect(b"one two");
    running.fake.gate(1).open();
    culprit.expect(&[STUCK, 1]);
}

#[test]
fn calls_stick_one_after_the_other_for_many_rounds() {
    let running = serve_with_deadline(Duration::from_millis(30));
    let mut other = running.connect();
    for gate in 0..20 {
        let mut culprit = running.connect();
        stick(&running, &mut culprit, gate);
        other.expect_to_work();
        culprit.expect_error();
        running.fake.gate(gate).open();
        culprit.expect_to_work();
    }
    wait_until("all have ended", || running.server.stuck() == 0);
    running.fake.wait_for(&Event::Finished(STUCK, false), 20);
}

#[test]
fn a_loop_that_comes_back_while_it_is_replaced_loses_no_connection() {
    let running = serve();
    let mut gateways: Vec<_> = (0..50).map(|_| running.connect()).collect();
    longest(&mut gateways);
    let mut culprit = running.connect();
    for round in 0..200 {
        let payload = [BRIEF, 48 + round % 10];
        assert_eq!(culprit.call(&payload).payload, payload);
        longest(&mut gateways);
    }
    assert_eq!(running.server.connections(), 51);
    wait_until("all loops have ended", || running.server.stuck() == 0);
}
