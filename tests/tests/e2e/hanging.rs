//! Plugins that never come back: their calls are answered, and nobody else waits for them.

use e2e::message::{Code, HTTP_REQ_CALL, Reply, Request};
use e2e::runner::Setup;

const UNAVAILABLE: Reply = Reply::Error(Code::ServiceUnavailable);
const SAY: (&str, &str) = ("say", "{}");

#[test]
fn a_configure_that_hangs_blocks_its_own_route_only() {
    let config = "calls:\n  deadline: 500ms\n";
    let runner = Setup::with(&["misbehaving", "say"]).config(config).start();
    let mut other = runner.gateway();
    let alone = other.prepare(&[SAY]);
    let expected = other.request(alone, &Request::get("/"));
    let mut stuck = runner.gateway();
    let hanging = r#"{"mode": "slow_configure", "ms": 3600000}"#;
    let token = stuck.prepare(&[("misbehaving", hanging)]);
    stuck.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(other.request(alone, &Request::get("/")), expected);
    let mark = [("misbehaving", r#"{"mode": "mark"}"#)];
    assert_eq!(runner.gateway().get(&mark).text(), "mark-of-the-file");
    assert_eq!(stuck.receive_reply().reply(), UNAVAILABLE);
}
