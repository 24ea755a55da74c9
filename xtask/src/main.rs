//! The project's own commands: `cargo xtask` prints the list. Each one is a file with one public `run`.
//!
//! Light on purpose: it is compiled before anything else, and depends on nothing that the runner is made of.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program"
)]

use std::process::ExitCode;

use anyhow::{Result, bail};
use xtask::{
    bench, codegen, demo, dist, freeze, lint, plugins, sanitize, test, tidy, torture, walk,
};

/// One command: its name, its arguments as shown in the list, what it does, and the function.
struct Task {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(Vec<String>) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "demo",
        arguments: "[--once]",
        about: "show requests that go through a gateway into plugins, and a plugin replaced while it serves",
        run: demo::run,
    },
    Task {
        name: "test",
        arguments: "",
        about: "run every test",
        run: test::run,
    },
    Task {
        name: "plugins",
        arguments: "--out DIR [--release] [--with-test-plugins]",
        about: "build the example plugins and lay their .so files into DIR",
        run: plugins::run,
    },
    Task {
        name: "bench",
        arguments: "[--guard] [--json FILE] [--plot FILE] [--help]",
        about: "measure the runner against the fastest server there can be",
        run: bench::run,
    },
    Task {
        name: "dist",
        arguments: "[--here] [--debug] [--twice]",
        about: "make the archive that people download, and try it from an empty folder",
        run: dist::run,
    },
    Task {
        name: "walk",
        arguments: "[--to FOLDER] [--without-dist]",
        about: "do what a newcomer does, from a fresh clone to a plugin that serves, and time each step",
        run: walk::run,
    },
    Task {
        name: "torture",
        arguments: "[--swaps N] [--crashes N] [--recycles N] [--seconds S] [--debug] [--help]",
        about: "swap, break and crash plugins under a load of calls each of whose answers is checked",
        run: torture::run,
    },
    Task {
        name: "lint",
        arguments: "",
        about: "check format, lints, licences and the house rules",
        run: lint::run,
    },
    Task {
        name: "tidy",
        arguments: "",
        about: "check the house rules that no other tool knows (sizes, unsafe code, module files)",
        run: tidy::run,
    },
    Task {
        name: "codegen",
        arguments: "[--check]",
        about: "make the code for the gateway's messages from its schema",
        run: codegen::run,
    },
    Task {
        name: "freeze",
        arguments: "[--seal]",
        about: "record the ABI version of plugin-api as a kept one, with a plugin and a loader (tests/frozen)",
        run: freeze::run,
    },
    Task {
        name: "sanitize",
        arguments: "[miri | address]",
        about: "run tests under Miri and AddressSanitizer, where they are installed",
        run: sanitize::run,
    },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match arguments.next().as_deref() {
        None | Some("help" | "--help" | "-h") => {
            list();
            Ok(())
        }
        Some(name) => run(name, arguments.collect()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str, arguments: Vec<String>) -> Result<()> {
    match TASKS.iter().find(|task| task.name == name) {
        Some(task) => (task.run)(arguments),
        None => bail!("there is no task `{name}`: `cargo xtask` prints the list"),
    }
}

fn list() {
    println!("cargo xtask TASK\n");
    for task in TASKS {
        println!("  {} {}\n      {}", task.name, task.arguments, task.about);
    }
}
