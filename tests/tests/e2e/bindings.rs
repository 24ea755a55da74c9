//! Plugins that are bound to routes, services and consumers.

use e2e::artifacts;
use e2e::bindings::{lay, of, says, setup, start};
use e2e::gateway::Gateway;
use e2e::message::{
    Code, EXTRA_INFO, HTTP_REQ_CALL, Question, Reply, Request, Response, answer_payload,
};
use e2e::runner::{Runner, Setup};
use e2e::wait;

fn prepare(gateway: &mut Gateway, hook: &str, conf: &[(&str, &str)]) -> u32 {
    gateway
        .try_prepare(&format!("route#1#ext-plugin-{hook}#{conf:?}"), conf)
        .unwrap()
}

#[test]
fn each_level_beats_the_next_one_down() {
    let levels = [
        "    scope: {route: r, service: s, consumer: anna}\n",
        "    scope: {route: r, consumer: anna}\n",
        "    scope: {service: s, consumer: anna}\n",
        "    scope: {route: r, service: s}\n",
        "    scope: {consumer: anna}\n",
        "    scope: {route: r}\n",
        "    scope: {service: s}\n",
        "",
    ];
    for first in 0..levels.len() {
        let mut bindings = String::new();
        for (level, scope) in levels.iter().enumerate().skip(first).rev() {
            bindings += &says(&format!("level-{level}"), scope);
        }
        // Disabled, it does not count.
        let above = first.checked_sub(1).map(|above| levels[above]);
        bindings += &above.map_or(String::new(), |scope| {
            says("disabled", &format!("{scope}    enabled: false\n"))
        });
        // It says who the client is before `stop` runs.
        bindings += "  - plugin: tracer\n    config: {consumer: anna}\n";
        let runner = start(&bindings);
        let own = [("tracer", r#"{"consumer": "anna"}"#)];
        let mut gateway = of(&runner, "r", "s");
        let token = prepare(&mut gateway, "pre-req", &own);
        let text = gateway.request(token, &Request::get("/")).text();
        assert_eq!(text, format!("level-{first}"));
    }
}

#[test]
fn what_a_call_belongs_to_is_asked_in_one_write_and_only_if_a_binding_needs_it() {
    let runner = start(&says("all", ""));
    let mut gateway = of(&runner, "r", "s");
    assert_eq!(gateway.get(&[]).text(), "all");
    assert_eq!(gateway.asked, []);
    let bindings = says("all", "") + &says("r", "    scope: {route: r, service: s}\n");
    lay(runner.setup(), &bindings);
    runner.log().wait_for_nth(1, &["bindings serve"]);
    assert_eq!(gateway.get(&[]).text(), "r");
    let asked = ["route_id", "service_id"].map(|name| Question::Variable(name.to_owned()));
    assert_eq!(gateway.asked, asked);
    assert_eq!(of(&runner, "other", "s").get(&[]).text(), "all");
    // Both questions come before either is answered.
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[]);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    for _ in asked {
        assert_eq!(gateway.receive().kind, EXTRA_INFO);
    }
    for id in [b"r", b"s"] {
        gateway.send(EXTRA_INFO, &answer_payload(Some(id)));
    }
    assert_eq!(gateway.receive().reply().text(), "r");
}

#[test]
fn a_disabled_binding_is_as_none() {
    let disabled = says("disabled", "    enabled: false\n");
    let runner = start(&format!("{disabled}  - {{plugin: tracer, config: {{}}}}\n"));
    assert_eq!(runner.gateway().get(&[]), Reply::Nothing);
    lay(runner.setup(), &says("enabled", "    enabled: true\n"));
    runner.log().wait_for_nth(1, &["bindings serve"]);
    assert_eq!(runner.gateway().get(&[]).text(), "enabled");
    lay(runner.setup(), &disabled);
    runner.log().wait_for_nth(2, &["bindings serve"]);
    assert_eq!(runner.gateway().get(&[]), Reply::Nothing);
}

#[test]
fn a_plugin_in_the_routes_own_conf_replaces_its_binding() {
    let runner = start(&says("bound", ""));
    let own = [("stop", r#"{"body": "own"}"#)];
    assert_eq!(runner.gateway().get(&own).text(), "own");
    assert_eq!(runner.gateway().get(&[]).text(), "bound");
}

#[test]
fn pre_and_post_on_one_route_run_each_at_its_hook() {
    let bindings = says("pre", "") + &says("post", "    at: post\n");
    let runner = start(&bindings);
    let mut gateway = runner.gateway();
    for hook in ["pre", "post"] {
        let token = prepare(&mut gateway, &format!("{hook}-req"), &[]);
        let text = gateway.request(token, &Request::get("/")).text();
        assert_eq!(text, hook);
    }
}

#[test]
fn bound_plugins_run_in_the_order_of_priority_then_name() {
    let bindings = "
  - {plugin: tracer, config: {label: t}}
  - {plugin: key-auth, config: {consumers: [{username: anna, keys: [k]}]}}
  - {plugin: stop}
";
    let runner = start(bindings);
    // `key-auth` has the highest priority, `stop` comes before `tracer`.
    let reply = runner.gateway().get(&[]).answer();
    assert_eq!(reply.status, 401);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[]);
    let request = Request::get("/").header("apikey", "k");
    assert_eq!(
        gateway.request(token, &request).text(),
        "Hello, Rust Runner of APISIX"
    );
    runner
        .log()
        .wait_for(&["logged", "t.rewrite", "by=stop", "consumer=anna"]);
    assert_eq!(runner.log().with("t.access").len(), 0);
}

#[test]
fn the_consumer_comes_from_a_plugin_before_or_after_the_gateway_from_the_gateway() {
    let bindings = "
  - {plugin: key-auth, config: {consumers: [{username: anna, keys: [k]}, {username: bert, keys: [l]}]}}
  - {plugin: say, config: {body: pre-anna}, scope: {consumer: anna}}
  - {plugin: say, config: {body: post-anna}, scope: {consumer: anna}, at: post}
";
    let runner = start(bindings);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[]);
    let with_key = |key: &str| Request::get("/").header("apikey", key);
    assert_eq!(gateway.request(token, &with_key("k")).text(), "pre-anna");
    assert!(matches!(
        gateway.request(token, &with_key("l")),
        Reply::Rewrite(_)
    ));
    for (consumer, text) in [("anna", Some("post-anna")), ("bert", None)] {
        let mut gateway = runner.gateway().variable("consumer_name", consumer);
        let token = prepare(&mut gateway, "post-req", &[]);
        match (gateway.request(token, &Request::get("/")), text) {
            (Reply::Stop(answer), Some(text)) => assert_eq!(answer.text(), text),
            (Reply::Nothing, None) => {}
            (reply, text) => panic!("{consumer}: {reply:?}, not {text:?}"),
        }
    }
}

#[test]
fn a_binding_to_a_consumer_that_nobody_can_know_is_reported() {
    let runner = start("  - {plugin: say, config: {body: x}, scope: {consumer: anna}}\n");
    assert_eq!(runner.gateway().get(&[]), Reply::Nothing);
    let parts = ["WARN", "say", "cannot be resolved here", "at: post"];
    runner.log().wait_for(&parts);
}

#[test]
fn on_a_response_all_bindings_run() {
    let runner = start("  - {plugin: tracer, config: {label: t}, at: post}\n");
    let mut gateway = runner.gateway().response_body("x");
    let token = gateway.prepare(&[]);
    gateway.response(token, &Response::new(200, &[])).answer();
    runner
        .log()
        .wait_for(&["logged", "t.header_filter t.body_filter"]);
}

#[test]
fn a_file_with_faults_changes_nothing_and_tells_all_of_them() {
    let runner = start(&says("old", ""));
    let mut gateway = runner.gateway();
    lay(
        runner.setup(),
        "  - plugn: stop\n  - plugin: stop\n    at: never\n",
    );
    let line = runner.log().wait_for(&["the bindings stay as they were"]);
    assert!(
        line.contains("did you mean `plugin`?") && line.contains("pre or post"),
        "{line}"
    );
    assert_eq!(gateway.get(&[]).text(), "old");
    // Readable, but refused by the plugin's schema.
    lay(runner.setup(), "  - {plugin: stop, config: {status: 7}}\n");
    runner
        .log()
        .wait_for(&["at `status`: 7 is less than the minimum of 200"]);
    runner.log().wait_for(&["all bindings stay as they were"]);
    assert_eq!(gateway.get(&[]).text(), "old");
    lay(runner.setup(), &says("new", ""));
    runner.log().wait_for_nth(1, &["1 bindings serve"]);
    assert_eq!(gateway.get(&[]).text(), "new");
}

#[test]
fn a_start_with_faults_in_the_bindings_is_refused() {
    let mut runner = setup("  - plugn: stop\n").spawn();
    assert_eq!(runner.wait().code(), Some(64));
    runner
        .log()
        .wait_for(&["bindings.yaml:2:5", "did you mean `plugin`?"]);
}

#[test]
fn a_binding_that_cannot_serve_lets_nobody_pass() {
    let runner = start("  - {plugin: missing}\n");
    let reply = runner.gateway().get(&[]);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    runner.log().wait_for(&[
        "no library offers plugin `missing`",
        "binding#everything#missing",
    ]);
}

#[test]
fn a_new_worker_has_the_bindings_of_the_old_one() {
    let runner = start(&says("bound", ""));
    assert_eq!(runner.gateway().get(&[]).text(), "bound");
    let worker = runner.worker();
    e2e::runner::signal_process(worker, rustix::process::Signal::KILL);
    runner.log().wait_for(&["ready again"]);
    assert_eq!(runner.gateway().get(&[]).text(), "bound");
}

/// A call that pauses in `access` when it knows its consumer, before what is bound to that runs.
#[track_caller]
fn pause(runner: &Runner) -> Gateway {
    let mut gateway = runner.gateway();
    let own = [("tracer", r#"{"consumer": "anna", "ask": true}"#)];
    let token = gateway.prepare(&own);
    gateway.send(HTTP_REQ_CALL, &Request::get("/").payload(token));
    assert_eq!(gateway.receive().kind, EXTRA_INFO);
    gateway
}

fn go_on(mut gateway: Gateway) -> Reply {
    gateway.send(EXTRA_INFO, &answer_payload(None));
    gateway.receive().reply()
}

const STOP_TEXT: &[u8; 28] = b"Hello, Rust Runner of APISIX";
const NEW_TEXT: &[u8; 28] = b"Hello from the next build...";

#[test]
fn a_call_meets_one_build_only_also_of_a_plugin_that_is_bound_to_its_consumer() {
    let runner = start("  - {plugin: stop, scope: {consumer: anna}}\n");
    let paused = pause(&runner);
    let library = artifacts::patched("stop", STOP_TEXT, NEW_TEXT);
    runner.setup().lay("libstop.so", &library);
    let mut gateway = runner.gateway();
    let own = [("tracer", r#"{"consumer": "anna"}"#)];
    wait::until("the new build serves", || {
        (gateway.get(&own).text().as_bytes() == NEW_TEXT).then_some(())
    });
    assert_eq!(go_on(paused).text().as_bytes(), STOP_TEXT);
}

#[test]
fn a_call_goes_on_with_the_bindings_that_it_began_with() {
    let runner = start("  - {plugin: stop, config: {body: old}, scope: {consumer: anna}}\n");
    let paused = pause(&runner);
    lay(
        runner.setup(),
        "  - {plugin: stop, config: {body: new}, scope: {consumer: anna}}\n",
    );
    runner.log().wait_for_nth(1, &["1 bindings serve"]);
    assert_eq!(go_on(paused).text(), "old");
    assert_eq!(go_on(pause(&runner)).text(), "new");
}

#[test]
fn the_bindings_of_a_plugin_move_to_a_new_build_together_or_not_at_all() {
    let setup = Setup::with(&["tracer", "misbehaving"]);
    lay(
        &setup,
        "
  - {plugin: misbehaving, config: {mode: none}}
  - {plugin: misbehaving, config: {mode: mark}, scope: {consumer: anna}}
",
    );
    let runner = setup.start();
    runner.log().wait_for(&["bindings serve"]);
    let own = [("tracer", r#"{"consumer": "anna"}"#)];
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&own).text(), "mark-of-the-file");
    // It takes `mark` and refuses `none`.
    runner.lay_mark("mark-choosy-0001");
    runner
        .log()
        .wait_for(&["misbehaving", "all 2 of its bindings stay on generation"]);
    assert_eq!(gateway.get(&own).text(), "mark-of-the-file");
    e2e::runner::signal_process(runner.worker(), rustix::process::Signal::KILL);
    runner.log().wait_for(&["ready again"]);
    let mut gateway = runner.gateway();
    assert_eq!(gateway.get(&own).text(), "mark-of-the-file");
    runner.lay_mark("mark-number-0002");
    wait::until("the next build serves", || {
        (gateway.get(&own).text() == "mark-number-0002").then_some(())
    });
}
