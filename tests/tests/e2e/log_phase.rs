//! The `log` phase and the line about a call.

use e2e::message::{Code, Reply, Request, Response};
use e2e::runner::{Runner, Setup};
use e2e::wait;

#[track_caller]
fn logged_once(runner: &Runner, label: &str, parts: &[&str]) -> String {
    let label = format!("label={label}");
    let mut wanted = vec!["logged", label.as_str()];
    wanted.extend(parts);
    let line = runner.log().wait_for(&wanted);
    // A second one would come from the same queue, before that of a later call.
    let mut gateway = runner.gateway();
    gateway.get(&[("tracer", r#"{"label": "marker"}"#)]);
    runner.log().wait_for(&["logged", "label=marker"]);
    let lines = runner.log().with("logged");
    let lines = lines.iter().filter(|line| line.contains(&label));
    assert_eq!(lines.count(), 1);
    line
}

#[test]
fn phases_run_one_after_the_other_over_the_whole_chain() {
    let runner = Runner::with(&["tracer"]);
    let mut gateway = runner.gateway();
    let conf = [
        ("tracer", r#"{"label": "a"}"#),
        ("tracer", r#"{"label": "b"}"#),
        ("tracer", r#"{"label": "c"}"#),
    ];
    let token = gateway.prepare(&conf);
    assert_eq!(gateway.request(token, &Request::get("/x")), Reply::Nothing);
    let order = "a.rewrite b.rewrite c.rewrite a.access b.access c.access";
    logged_once(&runner, "a", &[order, "path=/x", "own=access"]);
    for label in ["b", "c"] {
        logged_once(&runner, label, &[order]);
    }
    gateway.response(token, &Response::new(200, &[])).answer();
    let order =
        "a.header_filter b.header_filter c.header_filter a.body_filter b.body_filter c.body_filter";
    runner
        .log()
        .wait_for(&["logged", order, "hook=Response", "status=200"]);
}

#[test]
fn the_run_loops_own_hooks_stand_around_each_phase() {
    let trace = "logging: {level: trace}\n";
    let runner = Setup::with(&["tracer", "misbehaving"])
        .config(trace)
        .start();
    let say = |phase| format!(r#"{{"mode": "log", "phase": "{phase}"}}"#);
    let (rewrite, access) = (say("rewrite"), say("access"));
    let conf = [
        ("misbehaving", rewrite.as_str()),
        ("misbehaving", access.as_str()),
        ("tracer", r#"{"label": "t"}"#),
    ];
    assert_eq!(runner.gateway().get(&conf), Reply::Nothing);
    runner.log().wait_for(&["runloop", "log.after"]);
    let marks = [
        "rewrite.before",
        "said with tracing",
        "rewrite.after",
        "access.before",
        "said with tracing",
        "access.after",
        "log.before",
        "logged",
        "log.after",
    ];
    let lines = runner.log().lines();
    let marked = lines.iter().filter_map(|line| {
        let of_plugin = line.contains("said with tracing") || line.contains("label=t");
        let mut marks = marks.iter().copied();
        marks.find(|mark| line.contains(mark) && (line.contains(" runloop: ") || of_plugin))
    });
    assert_eq!(marked.collect::<Vec<_>>(), marks, "{lines:#?}");
}

#[test]
fn an_answer_in_rewrite_skips_access_and_later_plugins_but_not_log() {
    let runner = Runner::with(&["tracer"]);
    let conf = [
        ("tracer", r#"{"label": "a", "answer_in": "rewrite"}"#),
        ("tracer", r#"{"label": "b"}"#),
    ];
    assert_eq!(runner.gateway().get(&conf).text(), "a.rewrite ");
    let facts = [
        "action=Answer",
        "ended=Answer",
        "status=299",
        "by=tracer",
        "timed=true",
    ];
    logged_once(&runner, "a", &facts);
    logged_once(&runner, "b", &facts);
}

#[test]
fn a_call_that_failed_is_logged_once() {
    let runner = Runner::with(&["tracer"]);
    let conf = [(
        "tracer",
        r#"{"label": "a", "fail_in": "access", "consumer": "anna"}"#,
    )];
    let reply = runner.gateway().get(&conf);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    let facts = [
        "action=Error",
        "ended=Failure",
        "status=503",
        "consumer=anna",
    ];
    logged_once(&runner, "a", &facts);
}

#[test]
fn a_call_past_its_deadline_is_logged_once_and_at_the_deadline() {
    let config = "calls: {deadline: 200ms}\nworker: {threads_per_plugin: 1}\n";
    let setup = Setup::with(&["tracer"]).config(config);
    let runner = setup.start();
    let conf = [("tracer", r#"{"label": "a", "hang_in": "access"}"#)];
    let reply = runner.gateway().get(&conf);
    assert_eq!(reply, Reply::Error(Code::ServiceUnavailable));
    let facts = ["action=Error", "ended=Deadline", "by=tracer", "path=/"];
    logged_once(&runner, "a", &facts);
    // The plugin's only thread serves again when the late one has come back: that is no second end of its call.
    let mut gateway = runner.gateway();
    wait::until("the late plugin comes back", || {
        (gateway.get(&[("tracer", "{}")]) == Reply::Nothing).then_some(())
    });
    logged_once(&runner, "a", &facts);
}

#[test]
fn a_log_phase_that_fails_keeps_no_other_from_it() {
    let runner = Runner::with(&["tracer"]);
    let conf = [
        ("tracer", r#"{"label": "a", "fail_in": "log"}"#),
        ("tracer", r#"{"label": "b"}"#),
    ];
    assert_eq!(runner.gateway().get(&conf), Reply::Nothing);
    logged_once(&runner, "b", &["action=Pass", "ended=Chain"]);
    runner
        .log()
        .wait_for(&["ERROR", "panicked", "phase=log", "fail_in"]);
}

#[test]
fn fields_that_plugins_add_are_in_one_line_about_the_call() {
    let runner = Runner::with(&["tracer"]);
    for phase in ["access", "log"] {
        let conf = format!(r#"{{"label": "in-{phase}", "field_in": "{phase}"}}"#);
        runner.gateway().get(&[("tracer", &conf)]);
        let label = format!("label=in-{phase}");
        let line =
            runner
                .log()
                .wait_for(&["call: over", &label, "action=pass", "hook=pre-request"]);
        assert!(line.contains("INFO"), "{line}");
    }
    runner.gateway().get(&[("tracer", "{}")]);
    runner.log().wait_for(&["logged", "trace=\".rewrite"]);
    assert_eq!(runner.log().with("action=pass").len(), 2);
}

#[test]
fn at_level_debug_every_call_has_its_line() {
    let setup = Setup::with(&["stop"]).config("logging:\n  level: debug\n");
    let runner = setup.start();
    runner.gateway().get(&[("stop", "{}")]);
    let parts = [
        "call",
        "action=answer",
        "ended=answer",
        "by=stop",
        "status=200",
    ];
    runner.log().wait_for(&parts);
}
