//! Many connections, and connections that end.

use std::io::Write;

use plugin_runner::protocol::frame::kind;
use plugin_runner::rpc::server::Settings;

use crate::harness::{serve, serve_with, settings, wait_until};

#[test]
fn a_thousand_connections_are_served() {
    let running = serve();
    let mut gateways: Vec<_> = (0..1_000).map(|_| running.connect()).collect();
    for round in 0..3 {
        for (number, gateway) in gateways.iter_mut().enumerate() {
            gateway.send(kind::HTTP_REQ_CALL, format!("e{round} {number}").as_bytes());
        }
        for (number, gateway) in gateways.iter_mut().enumerate() {
            gateway.expect(format!("e{round} {number}").as_bytes());
        }
    }
    assert_eq!(running.server.connections(), 1_000);
    drop(gateways);
    wait_until("all connections gone", || running.server.connections() == 0);
}

#[test]
fn connections_that_end_anywhere_in_a_frame_harm_nobody() {
    let running = serve();
    for part in [&b""[..], &[2], &[2, 0, 0], &[2, 0, 0, 9], &[2, 0, 0, 9, 1]] {
        let mut gateway = running.connect();
        gateway.0.write_all(part).unwrap();
    }
    running.connect().expect_to_work();
    wait_until("all connections gone", || running.server.connections() == 0);
}

#[test]
fn confs_are_prepared_while_a_call_is_open_elsewhere() {
    let running = serve();
    let mut calling = running.connect();
    calling.send(kind::HTTP_REQ_CALL, &[crate::service::NEEDS, 1]);
    assert_eq!(calling.receive().kind, kind::EXTRA_INFO);
    let mut preparing = running.connect();
    preparing.send(kind::PREPARE_CONF, b"conf");
    assert_eq!(preparing.receive().kind, kind::PREPARE_CONF);
    calling.send(kind::EXTRA_INFO, b"answer");
    calling.expect(b"answer");
}

#[test]
fn several_event_loops_share_one_socket() {
    let running = serve_with(Settings {
        event_loops: 3,
        ..settings()
    });
    let mut gateways: Vec<_> = (0..50).map(|_| running.connect()).collect();
    for gateway in &mut gateways {
        gateway.expect_to_work();
    }
}
