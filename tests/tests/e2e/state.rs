//! What a conf has counted goes on to the next build of its plugin.

use std::fs;

use e2e::artifacts;
use e2e::gateway::Gateway;
use e2e::message::{Reply, Request};
use e2e::runner::{Runner, Setup};
use e2e::wait;

/// A rate at which nothing comes back while a test runs.
const LIMIT: [(&str, &str); 1] = [(
    "limit-req",
    r#"{"rate": 0.001, "burst": 3, "max_delay": 0}"#,
)];

fn passes(gateway: &mut Gateway, token: u32) -> bool {
    gateway.request(token, &Request::get("/")) == Reply::Nothing
}

#[test]
fn a_limiter_goes_on_counting_when_its_library_is_replaced() {
    let setup = Setup::with(&["limit-req"]);
    let bindings = format!(
        "bindings: [{{plugin: limit-req, config: {}}}]\n",
        LIMIT[0].1
    );
    fs::write(setup.folder().join("bindings.yaml"), bindings).unwrap();
    let runner = setup.start();
    let mut gateway = runner.gateway();
    // It has the bound one.
    let bound = gateway.prepare(&[]);
    assert!((0..3).all(|_| passes(&mut gateway, bound)));
    let (used, fresh) = (
        gateway
            .try_prepare("route#1#ext-plugin-pre-req#1", &LIMIT)
            .unwrap(),
        gateway
            .try_prepare("route#2#ext-plugin-pre-req#1", &LIMIT)
            .unwrap(),
    );
    assert!(passes(&mut gateway, used) && passes(&mut gateway, used));
    let text = b"too many requests: rejected";
    let other = artifacts::patched("limit-req", text, b"too many requests: REJECTED");
    runner.setup().lay("liblimit_req.so", &other);
    runner.log().wait_for(&["limit-req", "generation 2"]);
    assert!(!passes(&mut gateway, bound), "none is left");
    assert!(passes(&mut gateway, used), "one is left");
    assert!(!passes(&mut gateway, used), "the burst is used up");
    // The route was edited: the same conf comes under another version of its key.
    let edited = gateway
        .try_prepare("route#1#ext-plugin-pre-req#2", &LIMIT)
        .unwrap();
    assert_ne!(edited, used);
    assert!(!passes(&mut gateway, edited));
    let passing = (0..9).filter(|_| passes(&mut gateway, fresh)).count();
    assert_eq!(passing, 3, "each route counts for itself");
}

#[test]
fn a_limiter_goes_on_counting_when_the_worker_is_recycled() {
    let runner = Runner::with(&["limit-req"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&LIMIT);
    assert!(passes(&mut gateway, token) && passes(&mut gateway, token));
    for (worker, left) in [(2, true), (3, false)] {
        let output = runner.command(&["reload", "--recycle"]);
        assert!(output.status.success(), "{output:?}");
        let said = format!("worker {worker} serves instead");
        runner.log().wait_for(&[&said]);
        assert_eq!(passes(&mut gateway, token), left, "one is left");
        assert!(!passes(&mut gateway, token), "the burst is used up");
    }
}

#[test]
fn a_limit_counts_all_clients_of_a_route_unless_its_key_says_otherwise() {
    let runner = Runner::with(&["limit-req"]);
    let mut gateway = runner.gateway();
    let from = |address: u8| Request {
        address: vec![10, 0, 0, address],
        ..Request::get("/")
    };
    let mut passing = |route: u8, conf: &[(&str, &str)]| {
        let key = format!("route#{route}#ext-plugin-pre-req#1");
        let token = gateway.try_prepare(&key, conf).unwrap();
        let calls = (0..8).map(|call| gateway.request(token, &from(call % 2)));
        calls.filter(|reply| *reply == Reply::Nothing).count()
    };
    assert_eq!(passing(1, &LIMIT), 3, "as in the Go runner");
    let each = r#"{"rate": 0.001, "burst": 3, "max_delay": 0, "key": "remote_addr"}"#;
    assert_eq!(passing(2, &[("limit-req", each)]), 6);
    // Were there one count for both, a request would take two of its three.
    assert_eq!(passing(3, &[LIMIT[0], LIMIT[0]]), 3, "each for itself");
}

#[test]
fn a_state_that_cannot_be_handed_on_is_logged_and_holds_up_no_swap() {
    let runner = Runner::with(&["misbehaving"]);
    let mut gateway = runner.gateway();
    let modes = [
        ("state_huge", "it has 1048577 bytes, more than the 1048576"),
        (
            "state_panic",
            "`export_state` failed: panicked: handed on as it was told to",
        ),
        ("state_hang", "`export_state` took longer than 1s"),
        (
            "state_refused",
            "`import_state` failed: version 7 of a state is not known",
        ),
    ];
    for (mode, _) in modes {
        let conf = format!(r#"{{"mode": "{mode}"}}"#);
        let key = format!("route#{mode}#ext-plugin-pre-req#1");
        let token = gateway
            .try_prepare(&key, &[("misbehaving", &conf)])
            .unwrap();
        assert!(passes(&mut gateway, token));
    }
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    runner.lay_mark("mark-number-0001");
    wait::until("the new build serves", || {
        (gateway.get(&mark).text() == "mark-number-0001").then_some(())
    });
    for (mode, reason) in modes {
        let route_key = format!("route_key=route#{mode}#ext-plugin-pre-req#1");
        runner
            .log()
            .wait_for(&["misbehaving", &route_key, reason, "starts afresh"]);
    }
}
