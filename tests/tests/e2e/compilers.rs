//! Plugins that somebody else built: with another compiler, for another minor version, with other settings. And what
//! a checker of memory says to all of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::artifacts;
use e2e::gateway::Gateway;
use e2e::runner::{Runner, Setup};
use e2e::wait;
use rustix::process::Signal;
use xtask::cargo;
use xtask::elsewhere::Copy;

const HELLO: &str = "Hello, Rust Runner of APISIX";

/// A runner without plugins into which a library is laid.
#[track_caller]
fn lay(library: &Path) -> Runner {
    let runner = Runner::with(&[]);
    runner
        .setup()
        .lay("libstop.so", &fs::read(library).unwrap());
    runner
}

#[track_caller]
fn serves(library: &Path) {
    let runner = lay(library);
    runner.log().wait_for(&["stop 0.1.0 serves"]);
    assert_eq!(runner.gateway().get(&[("stop", "{}")]).text(), HELLO);
    let refused = runner.gateway().get(&[("stop", r#"{"statsu": 1}"#)]);
    assert!(matches!(refused, e2e::message::Reply::Error(_)));
}

#[test]
fn a_plugin_that_was_built_elsewhere_serves() {
    let copy = Copy::new("stop", "stop-elsewhere").unwrap();
    serves(&copy.build(&[]).unwrap());
}

#[test]
fn a_plugin_of_another_compiler_serves() {
    let (rustc, own) = (Path::new("/usr/bin/rustc"), version("rustc"));
    let other = version(rustc);
    if other.is_none() || other == own || !Path::new("/usr/bin/cargo").exists() {
        return e2e::skipped(
            "there is no second compiler at /usr/bin/rustc (Debian: rustc-web, cargo-web)",
        );
    }
    let copy = Copy::new("stop", "stop-other-compiler").unwrap();
    let mut command = Command::new("/usr/bin/cargo");
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG") || name.starts_with("RUST") || name == "LD_LIBRARY_PATH" {
            command.env_remove(name.as_ref());
        }
    }
    command.env("RUSTC", rustc).args(["build", "--target-dir"]);
    command.arg(cargo::target_folder().unwrap().join("other-compiler"));
    let library = copy.build_with(&mut command).unwrap();
    let text = fs::read(&library).unwrap();
    let wanted = other.unwrap();
    assert!(
        text.windows(wanted.len())
            .any(|part| part == wanted.as_bytes()),
        "built by {wanted}"
    );
    serves(&library);
}

fn version(rustc: impl AsRef<std::ffi::OsStr>) -> Option<String> {
    let output = Command::new(rustc).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[test]
fn a_plugin_of_the_next_minor_version_serves_today() {
    let copy = Copy::new("stop", "stop-of-tomorrow").unwrap();
    let library = copy
        .build(&["--features", "gateway-plugin-api/next-minor"])
        .unwrap();
    serves(&library);
}

#[test]
fn a_plugin_of_today_serves_in_a_runner_of_the_next_minor_version() {
    // Before the other runner takes its place in cargo's folder.
    let today = artifacts::library("stop");
    let features = ["--features", "next-minor"];
    let build = ["build", "--quiet", "--package", "plugin-runner"];
    let files = cargo::build(cargo::cargo().args(build).args(features)).unwrap();
    let runner = files
        .into_iter()
        .find(|file| file.ends_with("plugin-runner"));
    let said = Command::new(runner.as_ref().unwrap())
        .arg("--version")
        .output()
        .unwrap();
    let abi = format!(
        "ABI {}.{}",
        plugin_api::ABI_MAJOR,
        plugin_api::ABI_MINOR + 1
    );
    assert!(
        String::from_utf8_lossy(&said.stdout).contains(&abi),
        "{abi}"
    );
    let tomorrow = || Setup::with(&[]).executable(runner.clone().unwrap());
    let setup = tomorrow();
    setup.lay("libstop.so", &fs::read(today).unwrap());
    let runner_of_tomorrow = setup.start();
    let mut gateway = runner_of_tomorrow.gateway();
    assert_eq!(gateway.get(&[("stop", "{}")]).text(), HELLO);
    // Recorded libraries go on as well.
    for version in xtask::freeze::versions().unwrap() {
        let library = xtask::freeze::library(&version).unwrap();
        if library.exists() {
            crate::frozen::does_all_it_could(tomorrow(), &library);
        }
    }
}

#[test]
fn a_library_whose_panics_abort_is_refused() {
    let copy = Copy::new("stop", "stop-aborting").unwrap();
    let library = copy.build_for(&["-C", "panic=abort"]).unwrap();
    let runner = lay(&library);
    runner
        .log()
        .wait_for(&["libstop.so", "panic = \\\"abort\\\"", "hint"]);
    assert!(runner.setup().plugins().join("libstop.so").exists());
}

#[test]
fn a_checker_of_memory_finds_nothing() {
    if !cargo::has(&mut Command::new("valgrind")) {
        return e2e::skipped("valgrind is not installed");
    }
    // It is some fifty times slower.
    let config = "calls:\n  deadline: 300s\nplugins:\n  load_deadline: 300s\n";
    let setup = Setup::with(&["misbehaving", "rewrite"]).config(config);
    let report = setup.folder().join("valgrind");
    let mut runner = setup
        .argument("--no-supervisor")
        .wrapped(&[
            "valgrind",
            "--quiet",
            // It runs one thread at a time; without this, a busy one keeps the others waiting for seconds.
            "--fair-sched=yes",
            "--leak-check=no",
            "--error-exitcode=99",
        ])
        .wrapped(&[&format!("--log-file={}", report.display())])
        .start();
    call_everything(&runner, &mut runner.gateway().patient());
    runner.signal(Signal::TERM);
    let status = runner.wait();
    let report = fs::read_to_string(report).unwrap();
    let fine = report.is_empty() && status.code() != Some(99);
    assert!(fine, "{status}\n{report}");
}

fn call_everything(runner: &Runner, gateway: &mut Gateway) {
    for mode in [
        "panic",
        "error",
        "log",
        "ask",
        "illegal_header",
        "drop_panic",
    ] {
        let conf = format!(r#"{{"mode": "{mode}"}}"#);
        gateway.get(&[("rewrite", "{}"), ("misbehaving", &conf)]);
    }
    runner.lay_mark("mark-number-0001");
    let conf = [("misbehaving", r#"{"mode": "mark"}"#)];
    wait::until("the new build serves", || {
        (gateway.get(&conf).text() == "mark-number-0001").then_some(())
    });
}

#[test]
fn the_demo_shows_what_it_promises() {
    xtask::demo::run(vec!["--once".to_owned()]).unwrap();
}

#[test]
fn plugins_are_laid_by_renaming() {
    let folder = tempfile::tempdir().unwrap();
    let out: PathBuf = folder.path().join("new/folder");
    let options = xtask::plugins::Options {
        out: out.clone(),
        ..Default::default()
    };
    xtask::plugins::build(&options).unwrap();
    let names = fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| {
        ["libstop.so", "libresponse_rewrite.so", "libdo.so"].contains(&name.as_str())
    });
    names.sort();
    assert_eq!(names, ["libresponse_rewrite.so", "libstop.so"]);
}
