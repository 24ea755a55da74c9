//! Connections change hands between two servers, and nobody notices.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use plugin_runner::protocol::frame::kind;
use plugin_runner::rpc::hand_over::{pair, take_all};

use crate::harness::{Gateway, Running, serve, serve_with_deadline, wait_until};
use crate::service::{NEEDS, STUCK, THREAD};

/// No connection of another process is on its way.
fn nobody() -> bool {
    false
}

const WITHIN: Duration = Duration::from_secs(10);

/// Lets `to` have the connections of `from` while `meanwhile` runs; says how many it has taken.
fn hand_over(from: &Running, to: &Running, meanwhile: impl FnOnce()) -> usize {
    let (gives, takes) = pair().unwrap();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| take(&takes, to));
        let giving = scope.spawn(move || from.server.hand_over(&gives, WITHIN, &nobody));
        meanwhile();
        let handed = giving.join().unwrap();
        assert!(!handed.broken && handed.cut == 0, "{handed:?}");
        let taken = taking.join().unwrap();
        assert_eq!(handed.passed, taken);
        taken
    })
}

fn take(from: &OwnedFd, to: &Running) -> usize {
    take_all(from, |socket| to.server.take(socket)).unwrap()
}

#[test]
fn connections_at_rest_change_hands_at_once_and_are_served_by_the_other() {
    let (old, new) = (serve(), serve());
    let mut gateways: Vec<_> = (0..300).map(|_| old.connect()).collect();
    gateways.iter_mut().for_each(Gateway::expect_to_work);
    assert_eq!(hand_over(&old, &new, || {}), 300);
    assert_eq!(
        (old.server.connections(), new.server.connections()),
        (0, 300)
    );
    gateways.iter_mut().for_each(Gateway::expect_to_work);
    drop(old);
    gateways.iter_mut().for_each(Gateway::expect_to_work);
}

#[test]
fn what_is_still_on_its_way_to_the_giver_is_given_as_well() {
    let (first, old, new) = (serve(), serve(), serve());
    let mut gateway = first.connect();
    gateway.expect_to_work();
    let (gives, takes) = pair().unwrap();
    let (asked, arriving) = (AtomicBool::new(false), AtomicBool::new(true));
    let is_arriving = || {
        asked.store(true, Ordering::SeqCst);
        arriving.load(Ordering::SeqCst)
    };
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| take(&takes, &new));
        let old_server = &old.server;
        let giving = scope.spawn(move || old_server.hand_over(&gives, WITHIN, &is_arriving));
        wait_until("it has none yet", || asked.load(Ordering::SeqCst));
        assert_eq!(hand_over(&first, &old, || {}), 1);
        arriving.store(false, Ordering::SeqCst);
        assert_eq!(giving.join().unwrap().passed, 1);
        assert_eq!(taking.join().unwrap(), 1);
    });
    gateway.expect_to_work();
    assert_eq!(new.server.connections(), 1);
}

#[test]
fn a_call_holds_up_its_own_connection_and_no_other() {
    let (old, new) = (serve(), serve());
    let mut stuck = old.connect();
    let mut on_thread = old.connect();
    let mut asking = old.connect();
    let mut half = old.connect();
    let mut idle = old.connect();
    idle.expect_to_work();
    stuck.send(kind::HTTP_REQ_CALL, &[STUCK, 1]);
    on_thread.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    asking.send(kind::HTTP_REQ_CALL, &[NEEDS, 1]);
    assert_eq!(asking.receive().kind, kind::EXTRA_INFO);
    // Behind a whole frame, whose answer says that the half one has been read as well.
    half.0
        .write_all(b"\x02\x00\x00\x04echo\x02\x00\x00\x04e")
        .unwrap();
    half.expect(b"echo");
    wait_until("both are in", || {
        old.fake.inside.load(Ordering::SeqCst) == 2
    });
    let taken = hand_over(&old, &new, || {
        wait_until("the idle one", || new.server.connections() == 1);
        idle.expect_to_work();
        half.0.write_all(b"cho").unwrap();
        half.expect(b"echo");
        asking.send(kind::EXTRA_INFO, b"answer");
        asking.expect(b"answer");
        wait_until("three of them", || new.server.connections() == 3);
        old.fake.gate(1).open();
        stuck.expect(&[STUCK, 1]);
        on_thread.expect(&[THREAD, 1]);
    });
    assert_eq!(taken, 5);
    for gateway in [&mut stuck, &mut on_thread, &mut asking, &mut half] {
        gateway.expect_to_work();
    }
}

#[test]
fn a_call_that_never_ends_is_answered_at_its_deadline_and_its_connection_lives_on() {
    let old = serve_with_deadline(Duration::from_millis(300));
    let new = serve();
    let mut gateway = old.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[THREAD, 1]);
    wait_until("it is in", || old.fake.inside.load(Ordering::SeqCst) == 1);
    assert_eq!(hand_over(&old, &new, || gateway.expect_error()), 1);
    gateway.expect_to_work();
    old.fake.gate(1).open();
}

#[test]
fn under_load_no_call_fails_and_no_connection_is_closed_however_often_they_change_hands() {
    let (one, other) = (serve(), serve());
    let (stop, calls) = (AtomicBool::new(false), AtomicU32::new(0));
    let gateways: Vec<_> = (0..32).map(|_| one.connect()).collect();
    std::thread::scope(|scope| {
        for mut gateway in gateways {
            let (stop, calls) = (&stop, &calls);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    // In pieces: a server may have part of a call and no more.
                    for piece in [&[2][..], &[0, 0], &[4, b'e', b'c'], b"ho"] {
                        gateway.0.write_all(piece).unwrap();
                    }
                    gateway.expect(b"echo");
                    calls.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let before = || calls.load(Ordering::SeqCst);
        wait_until("all of them", || one.server.connections() == 32);
        // A server that has given its connections away accepts no more, but takes them.
        let taken = hand_over(&one, &other, || {});
        assert_eq!(taken, 32);
        let some = before();
        wait_until("more calls", || before() > some + 1000);
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn connections_that_the_other_side_does_not_take_are_served_as_before() {
    let (old, new) = (serve(), serve());
    let mut gateways: Vec<_> = (0..100).map(|_| old.connect()).collect();
    gateways.iter_mut().for_each(Gateway::expect_to_work);
    let (gives, takes) = pair().unwrap();
    drop(takes);
    assert!(old.server.hand_over(&gives, WITHIN, &nobody).broken);
    gateways.iter_mut().for_each(Gateway::expect_to_work);
    assert_eq!(hand_over(&old, &new, || {}), 100);
    gateways.iter_mut().for_each(Gateway::expect_to_work);
}
