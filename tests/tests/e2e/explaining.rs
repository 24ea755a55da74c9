//! `explain`: which binding wins, in the order in which calls run them, and what cannot go well.

use std::fs;
use std::process::Command;

use e2e::artifacts;
use e2e::runner::Setup;

use e2e::bindings::setup;

#[track_caller]
fn explain(setup: &Setup, arguments: &str) -> String {
    let config = setup.folder().join("config.yaml");
    fs::write(&config, "plugins: {dir: plugins}\n").unwrap();
    let mut command = Command::new(artifacts::runner());
    command.arg("explain").args(arguments.split_whitespace());
    let output = command.arg("--config").arg(config).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Phase and plugin of each line after the first.
fn order(text: &str) -> Vec<(&str, &str)> {
    let words = text.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace();
        (words.next().unwrap_or(""), words.next().unwrap_or(""))
    });
    words.collect()
}

const EARLY: &str =
    "an answer that `tracer` gives in rewrite comes before `key-auth` authenticates";
const UNRESOLVED: &str = "bindings of `stop` to consumers cannot be resolved";

#[test]
fn explain_says_what_wins_in_the_order_in_which_it_runs() {
    let setup = setup(
        "
  - {plugin: tracer}
  - {plugin: tracer, scope: {route: r}}
  - {plugin: tracer, scope: {route: r, service: other}}
  - {plugin: tracer, scope: {route: r, consumer: anna}, enabled: false}
  - {plugin: stop, scope: {consumer: anna}}
  - {plugin: key-auth}
  - {plugin: say, scope: {service: other}}
",
    );
    let text = explain(&setup, "--route r --consumer anna");
    let expected = [
        ("rewrite", "tracer"),
        ("access", "key-auth"),
        ("access", "stop"),
        ("access", "tracer"),
        ("log", "tracer"),
        ("warning:", "an"),
    ];
    assert_eq!(order(&text), expected, "{text}");
    let why = "line 4: route r (route beats everything)";
    assert!(text.contains(why) && text.contains(EARLY), "{text}");
}

#[test]
fn explain_at_post_shows_what_runs_there_and_nothing_else() {
    let setup = setup(
        "
  - {plugin: tracer, at: post}
  - {plugin: tracer, scope: {route: r}}
  - {plugin: stop, scope: {consumer: anna}, at: post}
  - {plugin: say}
",
    );
    let text = explain(&setup, "--route r --consumer anna --at post");
    let expected = [
        ("rewrite", "tracer"),
        ("access", "stop"),
        ("access", "tracer"),
        ("log", "tracer"),
    ];
    // The gateway knows the consumer by then: nothing to warn of.
    assert_eq!(order(&text), expected, "{text}");
    assert!(text.contains("line 3: everything"), "{text}");
}

#[test]
fn explain_warns_once_of_consumers_that_nobody_knows() {
    let setup = setup(
        "
  - {plugin: stop, scope: {consumer: anna}}
  - {plugin: stop, scope: {route: r, consumer: anna}}
",
    );
    let text = explain(&setup, "--route r --consumer anna");
    assert_eq!(text.matches(UNRESOLVED).count(), 1, "{text}");
    // Replaced, or after a plugin of the route's own that authenticates.
    for own in ["--own stop", "--own key-auth"] {
        let text = explain(&setup, &format!("--route r --consumer anna {own}"));
        assert!(!text.contains(UNRESOLVED), "{own}: {text}");
    }
    setup.install("misbehaving");
    // Bound plugins come before the first of the route's own with a lower priority.
    let text = explain(
        &setup,
        "--route r --consumer anna --own misbehaving --own key-auth",
    );
    assert!(text.contains(UNRESOLVED), "{text}");
}

#[test]
fn explain_knows_that_the_routes_own_plugins_may_authenticate() {
    let setup = setup("  - {plugin: tracer}\n");
    let text = explain(&setup, "--own key-auth");
    assert!(text.contains(EARLY), "{text}");
    assert!(!explain(&setup, "").contains("warning"), "{text}");
}
