//! `call` and `check` with bindings: what they add is what `start` would add.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use e2e::artifacts;
use serde_json::Value;
use tempfile::TempDir;

use crate::calling::{call, fails, report, text};

/// A folder with a file of bindings.
struct Bindings(TempDir);

impl Bindings {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.yaml"), format!("bindings:\n{text}")).unwrap();
        Self(folder)
    }

    fn file(&self) -> String {
        self.0.path().join("b.yaml").display().to_string()
    }

    #[track_caller]
    fn report(&self, arguments: &[&str]) -> Value {
        report(&[&["--bindings", &self.file()], arguments].concat())
    }
}

/// Plugin and phase of what ran.
fn ran(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps
        .map(|step| {
            (
                step["plugin"].as_str().unwrap(),
                step["phase"].as_str().unwrap(),
            )
        })
        .collect()
}

const SCOPED: &str = "
  - {plugin: say, config: {body: everybody}}
  - {plugin: say, config: {body: the route}, scope: {route: r}}
  - {plugin: say, config: {body: route and service}, scope: {route: r, service: s}}
  - {plugin: say, config: {body: after}, scope: {route: r}, at: post}
  - {plugin: say, config: {body: anna}, scope: {consumer: anna}, at: post}
";

#[test]
fn the_binding_that_wins_for_the_route_and_service_that_are_named_runs() {
    let bindings = Bindings::new(SCOPED);
    for (arguments, body) in [
        (&["/"][..], "everybody"),
        (&["/", "--route", "r"], "the route"),
        (&["/", "--route", "other"], "everybody"),
        (
            &["/", "--route", "r", "--service", "s"],
            "route and service",
        ),
        (&["/", "--route", "r", "--at", "post"], "after"),
        (&["/", "--consumer", "anna", "--at", "post"], "anna"),
        // Before its own plugins the gateway knows no consumer.
        (&["/", "--consumer", "anna"], "everybody"),
    ] {
        let report = bindings.report(arguments);
        assert_eq!(report["outcome"]["body"], body, "{arguments:?}: {report}");
        let note = report["note"].as_str().unwrap_or_default();
        let is_early = arguments == ["/", "--consumer", "anna"];
        assert_eq!(note.contains("knows no consumer"), is_early, "{report}");
    }
}

#[test]
fn a_plugin_of_the_chain_replaces_its_bindings_and_the_others_come_by_their_priority() {
    let bindings = Bindings::new(
        "
  - {plugin: key-auth, config: {consumers: [{username: anna, keys: [a-key]}]}}
  - {plugin: say, config: {body: bound}}
  - {plugin: tracer, scope: {consumer: anna}}
  - {plugin: stop, scope: {route: other}}
",
    );
    let own = "say={}"; // answers nothing
    let report = bindings.report(&["--plugin", own, "/", "-H", "apikey: a-key"]);
    // Whom key-auth has authenticated is known from then on.
    let wanted = [
        ("key-auth", "access"),
        ("say", "access"),
        ("tracer", "access"),
        ("tracer", "log"),
    ];
    assert_eq!(ran(&report), wanted, "{report}");
    assert_eq!(report["outcome"]["kind"], "change", "{report}");
    let bound = report["bound"].as_array().unwrap().iter();
    let bound: Vec<_> = bound.map(|it| it["plugin"].as_str().unwrap()).collect();
    assert_eq!(bound, ["key-auth", "say", "tracer"], "{report}");
    let nobody = bindings.report(&["--plugin", own, "/"]);
    assert_eq!(nobody["outcome"]["status"], 401, "{nobody}");
}

#[test]
fn the_configuration_names_the_bindings_as_it_does_for_start() {
    let bindings = Bindings::new("  - {plugin: say, config: {body: bound}}\n");
    let folder = bindings.0.path();
    let config = folder.join("config.yaml");
    fs::write(&config, "plugins:\n  hot_reload: true\n").unwrap();
    let config = config.display().to_string();
    let call_it = || report(&["--config", &config, "--plugin", "rewrite", "/"]);
    let without = call_it();
    assert_eq!(ran(&without), [("rewrite", "access")], "{without}");
    fails(&["--config", &config, "/"], 64, "there is no plugin to run");
    fs::rename(folder.join("b.yaml"), folder.join("bindings.yaml")).unwrap();
    let with = call_it();
    assert_eq!(with["outcome"]["body"], "bound", "{with}");
    let alone = report(&["--config", &config, "/"]);
    assert_eq!(alone["outcome"]["body"], "bound", "{alone}");
}

#[test]
fn what_bound_plugins_ask_the_gateway_for_is_asked_as_on_every_later_call_of_a_route() {
    let bindings = Bindings::new("  - {plugin: asking, scope: {route: r}}\n");
    let report = bindings.report(&["/", "--route", "r", "--var", "remote_port=1"]);
    let declared = report["declared"].as_array().unwrap();
    assert!(declared.contains(&"variable route_id".into()), "{report}");
    assert!(declared.len() > 1, "{report}");
}

#[test]
fn a_binding_that_cannot_serve_is_told_with_its_line_and_its_calls_fail() {
    let bindings = Bindings::new(
        "
  - {plugin: rewrite}
  - {plugin: say, config: {bdoy: x}}
",
    );
    let file = bindings.file();
    fails(
        &["--bindings", &file, "/"],
        1,
        "say, bound to everything (line 4), cannot run: ",
    );
    let nobody = Bindings::new("  - {plugin: nobody-offers-it}\n");
    let output = call(&["--bindings", &nobody.file(), "/"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("nobody-offers-it, bound to everything (line 2), cannot run"),
        "{said}"
    );
    let faulty = Bindings::new("  - {plguin: say}\n");
    fails(
        &["--bindings", &faulty.file(), "/"],
        64,
        "did you mean `plugin`",
    );
    fails(&["--bindings", "/nowhere.yaml", "/"], 64, "/nowhere.yaml");
}

#[test]
fn a_person_sees_which_bindings_may_apply() {
    let bindings = Bindings::new(SCOPED);
    let shown = text(&["--bindings", &bindings.file(), "--route", "r", "/"]);
    assert!(
        shown.contains("bound: say to everything (line 3)"),
        "{shown}"
    );
    assert!(shown.contains("bound: say to route r (line 4)"), "{shown}");
    assert!(
        !shown.contains("line 5") && !shown.contains("line 6"),
        "{shown}"
    );
}

/// `check` of the library of `say` with these bindings.
fn check(bindings: &Bindings, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(artifacts::runner());
    command.args(["check", "--json", "--bindings", &bindings.file()]);
    let library: PathBuf = artifacts::library("say");
    let output = command.args(arguments).arg(library).output().unwrap();
    let reports: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no report: {output:?}"));
    (output.status.code(), reports[0].clone())
}

#[test]
fn check_configures_a_library_with_its_bindings_and_runs_the_sample_call_through_them() {
    let bindings = Bindings::new(SCOPED);
    let body = |arguments: &[&str]| {
        let (code, report) = check(&bindings, arguments);
        assert_eq!(code, Some(0), "{report}");
        report["call"]["outcome"]["body"].clone()
    };
    assert_eq!(body(&[]), "everybody");
    assert_eq!(body(&["--route", "r"]), "the route");
    assert_eq!(body(&["--route", "r", "--at", "post"]), "after");
    // The route's own replaces them.
    assert_eq!(body(&["--conf", r#"{"body": "own"}"#]), "own");
}

#[test]
fn check_tells_a_binding_that_the_library_refuses_with_its_line() {
    let bindings = Bindings::new(
        "
  - {plugin: nobody-offers-it}
  - {plugin: say, config: {bdoy: x}, scope: {route: r}}
",
    );
    let (code, report) = check(&bindings, &[]);
    assert_eq!(code, Some(1), "{report}");
    let finding = &report["findings"][0];
    assert_eq!(finding["id"], "conf/refused", "{report}");
    let what = finding["what"].as_str().unwrap();
    assert!(what.starts_with("line 4 of the bindings"), "{what}");
}
