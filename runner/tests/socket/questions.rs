//! Questions to the gateway in the middle of a call.

use std::time::Duration;

use plugin_runner::protocol::frame::kind;

use crate::harness::{Gateway, serve, serve_with_deadline, wait_until};
use crate::service::{ASKS, ASKS_ON_THREAD, Event, NEEDS, PENDING, QUESTION, put};

fn expect_question(gateway: &mut Gateway) {
    let frame = gateway.receive();
    assert_eq!(
        (frame.kind, &frame.payload[..]),
        (kind::EXTRA_INFO, QUESTION)
    );
}

#[test]
fn declared_questions_are_asked_at_once_and_answered_in_order() {
    let running = serve();
    let mut gateway = running.connect();
    for round in 0..2 {
        gateway.send(kind::HTTP_REQ_CALL, &[NEEDS, 4]);
        for _ in 0..4 {
            expect_question(&mut gateway);
        }
        for number in 0..4 {
            gateway.send(kind::EXTRA_INFO, format!("{round}{number} ").as_bytes());
        }
        gateway.expect(format!("{round}0 {round}1 {round}2 {round}3 ").as_bytes());
    }
}

#[test]
fn answers_that_come_in_pieces_or_glued_are_taken() {
    use std::io::Write;
    let running = serve();
    let mut gateway = running.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[NEEDS, 3]);
    let mut bytes = Vec::new();
    for answer in ["one ", "two ", "three"] {
        put(&mut bytes, kind::EXTRA_INFO, answer.as_bytes());
    }
    for byte in bytes.chunks(5) {
        gateway.0.write_all(byte).unwrap();
        running.connect().expect_to_work();
    }
    for _ in 0..3 {
        expect_question(&mut gateway);
    }
    gateway.expect(b"one two three");
}

#[test]
fn a_question_in_the_middle_is_answered_inline_and_on_a_thread() {
    let running = serve();
    let mut gateway = running.connect();
    for way in [ASKS, ASKS_ON_THREAD, ASKS] {
        gateway.send(kind::HTTP_REQ_CALL, &[way]);
        expect_question(&mut gateway);
        gateway.send(kind::EXTRA_INFO, b"an answer");
        gateway.expect(b"an answer");
        gateway.expect_to_work();
    }
}

#[test]
fn an_answer_that_comes_after_the_loop_was_replaced_reaches_the_call_that_asked() {
    let running = serve();
    let mut gateway = running.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[ASKS]);
    expect_question(&mut gateway);
    wait_until("the loop is replaced", || running.server.stuck() == 1);
    running.connect().expect_to_work();
    gateway.send(kind::EXTRA_INFO, b"an answer");
    gateway.expect(b"an answer");
    gateway.expect_to_work();
}

#[test]
fn a_gateway_that_closes_in_the_middle_of_questions_ends_the_call() {
    let running = serve();
    for payload in [[NEEDS, 2], [ASKS, 0], [ASKS_ON_THREAD, 0]] {
        let mut gateway = running.connect();
        gateway.send(kind::HTTP_REQ_CALL, &payload);
        expect_question(&mut gateway);
        drop(gateway);
        running
            .fake
            .wait_for(&Event::Finished(payload[0], false), 1);
    }
    running.connect().expect_to_work();
}

#[test]
fn a_gateway_that_talks_out_of_turn_gets_an_error_and_loses_the_connection() {
    let running = serve();
    for payload in [[NEEDS, 2], [ASKS, 0], [ASKS_ON_THREAD, 0]] {
        let mut gateway = running.connect();
        gateway.send(kind::HTTP_REQ_CALL, &payload);
        for _ in 0..payload[1].max(1) {
            expect_question(&mut gateway);
        }
        gateway.send(kind::HTTP_REQ_CALL, b"echo");
        let last = gateway.receive();
        if payload[0] == NEEDS {
            assert_eq!(last.kind, kind::ERROR);
        } else {
            assert!(last.payload.starts_with(b"the gateway sent something else"));
        }
        assert_eq!(gateway.rest(), b"");
    }
    running.connect().expect_to_work();
}

#[test]
fn an_answer_that_cannot_be_read_gets_an_error() {
    let running = serve();
    let mut gateway = running.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[NEEDS, 1]);
    expect_question(&mut gateway);
    gateway.send(kind::EXTRA_INFO, b"bad");
    gateway.expect_error();
    running.fake.wait_for(&Event::Finished(NEEDS, false), 1);
}

#[test]
fn a_question_that_nobody_answers_ends_at_the_deadline() {
    let running = serve_with_deadline(Duration::from_millis(100));
    for payload in [[NEEDS, 1], [ASKS, 0], [ASKS_ON_THREAD, 0]] {
        let mut gateway = running.connect();
        gateway.send(kind::HTTP_REQ_CALL, &payload);
        expect_question(&mut gateway);
        // Either its own thread noticed the deadline, or its connection.
        let last = gateway.receive();
        assert!(last.kind == kind::ERROR || last.payload.starts_with(b"the call's deadline"));
        assert_eq!(gateway.rest(), b"");
    }
    running.connect().expect_to_work();
}

#[test]
fn a_call_waits_until_its_confs_are_configured_and_holds_up_nobody() {
    let running = serve();
    let mut waiting = running.connect();
    waiting.send(kind::HTTP_REQ_CALL, &[PENDING]);
    running.connect().expect_to_work();
    running.fake.configured();
    waiting.expect(&[PENDING]);
    assert_eq!(running.server.stuck(), 0);
}

#[test]
fn a_call_whose_confs_never_come_gets_an_error_at_its_deadline() {
    let running = serve_with_deadline(Duration::from_millis(100));
    let mut waiting = running.connect();
    waiting.send(kind::HTTP_REQ_CALL, &[PENDING]);
    waiting.expect_error();
    running.fake.wait_for(&Event::Expired(None), 1);
    running.fake.wait_for(&Event::Finished(PENDING, false), 1);
    waiting.expect_to_work();
}
