//! `new`: what a plugin's author starts from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::artifacts;
use e2e::message::{Reply, Request};
use e2e::runner::Runner;
use tempfile::TempDir;
use xtask::cargo;

const ALL: &str = "rewrite,access,header_filter,body_filter,log";

fn new(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(artifacts::runner());
    command.arg("new").args(arguments).current_dir(folder);
    command.output().unwrap()
}

fn plugin_api() -> String {
    cargo::root().join("plugin-api").display().to_string()
}

#[track_caller]
fn made(folder: &TempDir, arguments: &[&str]) -> PathBuf {
    let output = new(folder.path(), arguments);
    assert!(output.status.success(), "{output:?}");
    let made = folder.path().join(arguments[0]);
    // The versions that are here already, so that no network is needed.
    let lock = fs::read(cargo::root().join("Cargo.lock")).unwrap();
    fs::write(made.join("Cargo.lock"), lock).unwrap();
    made
}

/// A command of cargo's in the crate, with what the workspace has built already; what it says.
#[track_caller]
fn cargo_in(made: &Path, arguments: &[&str]) -> String {
    let mut command = cargo::cargo();
    command.current_dir(made).args(arguments);
    command.env("CARGO_TARGET_DIR", cargo::target_folder().unwrap());
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn a_new_plugin_passes_its_own_tests_and_lints_and_serves() {
    let folder = tempfile::tempdir().unwrap();
    let made = made(
        &folder,
        &["all-phases", "--phase", ALL, "--api-path", &plugin_api()],
    );
    cargo_in(&made, &["fmt", "--check"]);
    let said = cargo_in(&made, &["test", "--quiet"]);
    assert!(said.contains("6 passed"), "{said}");
    cargo_in(
        &made,
        &["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"],
    );
    cargo_in(&made, &["build", "--quiet"]);
    let library = cargo::target_folder()
        .unwrap()
        .join("debug/liball_phases.so");
    let runner = Runner::with(&[]);
    runner
        .setup()
        .lay("liball_phases.so", &fs::read(library).unwrap());
    runner.log().wait_for(&["all-phases 0.1.0 serves"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("all-phases", r#"{"greeting": "hi"}"#)]);
    assert_eq!(
        gateway
            .request(token, &Request::get("/hello"))
            .answer()
            .text(),
        "hi\n"
    );
    assert_ne!(gateway.request(token, &Request::get("/")), Reply::Nothing);
}

#[test]
fn a_new_plugin_names_our_package_and_has_everything_to_go_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let git = "https://git.example/plugin-runner";
    let made = made(&folder, &["require-key", "--api-git", git]);
    let read = |file: &str| fs::read_to_string(made.join(file)).unwrap();
    let manifest = read("Cargo.toml");
    assert!(manifest.contains(&format!("gateway-plugin-api = {{ git = \"{git}\" }}")));
    assert!(
        !manifest
            .lines()
            .any(|line| line.starts_with("plugin-api") || line.starts_with("plugin_api"))
    );
    assert!(manifest.contains("[profile.release]"));
    assert_eq!(read(".gitignore"), "/target\n");
    assert!(
        read(".github/workflows/plugin.yml").contains("cargo clippy --all-targets -- -D warnings")
    );
    assert!(read("README.md").contains("plugin-runner check target/release/librequire_key.so"));
    assert!(read("src/lib.rs").contains("impl Plugin for RequireKey"));
}

#[test]
fn with_nothing_but_the_archive_a_plugin_is_made_that_builds_without_the_network() {
    let folder = tempfile::tempdir().unwrap();
    // As `cargo xtask dist` lays them.
    let archive = folder.path().join("plugin-runner-1.0");
    fs::create_dir(&archive).unwrap();
    xtask::dist::api::lay(&archive).unwrap();
    let program = archive.join("plugin-runner");
    fs::copy(artifacts::runner(), &program).unwrap();
    let place = folder.path().join("elsewhere");
    fs::create_dir(&place).unwrap();
    let mut command = Command::new(program);
    let output = command
        .args(["new", "from-the-archive"])
        .current_dir(&place);
    let output = output.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(!said.contains("registry"), "{said}");
    let made = place.join("from-the-archive");
    let lock = fs::read(cargo::root().join("Cargo.lock")).unwrap();
    fs::write(made.join("Cargo.lock"), lock).unwrap();
    cargo_in(&made, &["build", "--quiet", "--offline"]);
    let target = cargo::target_folder().unwrap();
    let library = target.join("debug/libfrom_the_archive.so");
    let mut check = Command::new(artifacts::runner());
    let output = check.arg("check").arg(library).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn where_no_plugin_api_lies_beside_the_program_it_is_said_how_to_name_one() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("plugin-runner");
    fs::copy(artifacts::runner(), &program).unwrap();
    let mut command = Command::new(program);
    let output = command.args(["new", "alone"]).current_dir(folder.path());
    let output = output.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for part in [
        "No folder `plugin-api` lies",
        "remove ./alone",
        "--api-path DIR",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str], code: i32, says: &str) {
    let before = fs::read_dir(folder).unwrap().count();
    let output = new(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{said}");
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        before,
        "nothing is left over"
    );
}

#[test]
fn new_refuses_what_it_cannot_make_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("there")).unwrap();
    refused(path, &["there"], 1, "is there already: nothing was written");
    refused(path, &["match"], 64, "`match-plugin` would do");
    refused(path, &["../out"], 64, "is a path");
    refused(path, &["Key Auth"], 64, "`my-plugin` would do");
    refused(
        path,
        &["key-auth"],
        64,
        "there is a plugin `key-auth` already",
    );
    refused(
        path,
        &["mine", "--api-path", "/etc"],
        64,
        "/etc has no package `gateway-plugin-api`",
    );
    refused(
        path,
        &["mine", "--api-git", "git@a:b"],
        64,
        "no address that cargo clones from",
    );
    refused(
        path,
        &["mine", "--phase", "acces"],
        64,
        "a similar value exists: 'access'",
    );
    let setup = e2e::runner::Setup::with(&["stop"]);
    setup.lay(
        "libmine.so",
        &artifacts::patched("stop", br#""name":"stop""#, br#""name":"mine""#),
    );
    let plugins = setup.plugins().display().to_string();
    refused(
        path,
        &["mine", "--plugins", &plugins],
        64,
        "there is a plugin `mine` already, in ",
    );
}
