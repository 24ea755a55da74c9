//! A file with bindings, and calls that some of them apply to.

use std::fs;

use crate::gateway::Gateway;
use crate::runner::{Runner, Setup};

const PLUGINS: &[&str] = &["tracer", "stop", "key-auth", "say"];

/// A runner-to-be with these bindings.
pub fn setup(bindings: &str) -> Setup {
    let setup = Setup::with(PLUGINS);
    lay(&setup, bindings);
    setup
}

/// Lays the file with the bindings: written elsewhere, then renamed.
pub fn lay(setup: &Setup, bindings: &str) {
    let (part, whole) = (
        setup.folder().join("b.part"),
        setup.folder().join("bindings.yaml"),
    );
    fs::write(&part, format!("bindings:\n{bindings}")).unwrap();
    fs::rename(part, whole).unwrap();
}

/// A runner that these bindings serve in.
#[track_caller]
pub fn start(bindings: &str) -> Runner {
    let runner = setup(bindings).start();
    runner.log().wait_for(&["bindings serve"]);
    runner
}

/// A binding of `stop` that answers with a text.
pub fn says(text: &str, rest: &str) -> String {
    format!("  - plugin: stop\n    config: {{body: {text}}}\n{rest}")
}

/// A gateway whose requests belong to this route and service.
pub fn of(runner: &Runner, route: &str, service: &str) -> Gateway {
    let gateway = runner.gateway();
    gateway
        .variable("route_id", route)
        .variable("service_id", service)
}
