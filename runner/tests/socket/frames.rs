//! Frames in, frames out: every one is answered once, however it arrives.

use std::io::Write;

use plugin_runner::protocol::frame::{MAX_PAYLOAD, kind};

use crate::harness::{Frame, serve};
use crate::service::{HUGE, PANICS, REFUSED, put};

#[test]
fn a_call_is_answered_in_a_frame_of_its_kind() {
    let running = serve();
    let mut gateway = running.connect();
    for kind in [
        kind::HTTP_REQ_CALL,
        kind::HTTP_RESP_CALL,
        kind::PREPARE_CONF,
    ] {
        gateway.send(kind, b"echo");
        let payload = b"echo".to_vec();
        assert_eq!(gateway.receive(), Frame { kind, payload });
    }
}

#[test]
fn a_call_split_at_any_byte_is_answered() {
    let running = serve();
    let mut gateway = running.connect();
    let mut bytes = Vec::new();
    put(&mut bytes, kind::HTTP_REQ_CALL, b"echo me");
    for at in 1..bytes.len() {
        let (first, second) = bytes.split_at(at);
        gateway.0.write_all(first).unwrap();
        // Another connection's call: by its answer the first part has been seen.
        running.connect().expect_to_work();
        gateway.0.write_all(second).unwrap();
        gateway.expect(b"echo me");
    }
}

#[test]
fn glued_frames_are_answered_in_order() {
    let running = serve();
    let mut gateway = running.connect();
    let mut bytes = Vec::new();
    for number in 0..500_u32 {
        put(
            &mut bytes,
            kind::HTTP_REQ_CALL,
            format!("echo {number}").as_bytes(),
        );
    }
    gateway.0.write_all(&bytes).unwrap();
    for number in 0..500_u32 {
        gateway.expect(format!("echo {number}").as_bytes());
    }
}

#[test]
fn frames_that_mean_nothing_get_an_error_and_the_connection_stays() {
    let running = serve();
    let mut gateway = running.connect();
    for kind in [kind::ERROR, kind::EXTRA_INFO, 5, 77, 255] {
        gateway.send(kind, b"garbage");
        gateway.expect_error();
    }
    gateway.expect_to_work();
}

#[test]
fn an_empty_payload_is_answered() {
    let running = serve();
    let mut gateway = running.connect();
    assert_eq!(gateway.call(b"").payload, b"");
}

#[test]
fn a_refused_call_gets_its_error() {
    let running = serve();
    let mut gateway = running.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[REFUSED]);
    gateway.expect_error();
    gateway.expect_to_work();
}

#[test]
fn a_call_that_panics_gets_an_error_and_the_connection_stays() {
    let running = serve();
    let mut gateway = running.connect();
    gateway.send(kind::HTTP_REQ_CALL, &[PANICS]);
    gateway.expect_error();
    gateway.expect_to_work();
}

#[test]
fn the_largest_frame_comes_through_both_ways() {
    let running = serve();
    let mut gateway = running.connect();
    let largest = vec![b'e'; MAX_PAYLOAD];
    gateway.send(kind::HTTP_REQ_CALL, &largest);
    assert!(gateway.receive().payload == largest);
    assert_eq!(gateway.call(&[HUGE]).payload.len(), MAX_PAYLOAD);
    gateway.expect_to_work();
}
