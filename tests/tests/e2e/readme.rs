//! What the README tells a new user to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use e2e::artifacts;
use e2e::message::{Reply, Request};
use e2e::runner::Runner;
use xtask::cargo;

/// The first code block of a language after a heading.
#[track_caller]
fn block(readme: &str, heading: &str, language: &str) -> String {
    let (_, section) = readme.split_once(heading).expect("the heading");
    let (_, block) = section
        .split_once(&format!("```{language}\n"))
        .expect("a block");
    block.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_plugin_of_the_readme_builds_outside_and_serves() {
    let readme = fs::read_to_string(cargo::root().join("README.md")).unwrap();
    let (manifest, source) = (
        block(&readme, "## Write a plugin", "toml"),
        block(&readme, "## Write a plugin", "rust"),
    );
    let folder = tempfile::tempdir().unwrap();
    let root = cargo::root().display().to_string();
    let manifest = manifest.replace("../plugin-runner", &root);
    fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    fs::create_dir(folder.path().join("src")).unwrap();
    fs::write(folder.path().join("src/lib.rs"), source).unwrap();
    // The versions that are here already, so that no network is needed.
    let lock = fs::read(cargo::root().join("Cargo.lock")).unwrap();
    fs::write(folder.path().join("Cargo.lock"), lock).unwrap();

    let mut command = cargo::cargo();
    command.current_dir(folder.path()).arg("build");
    command
        .arg("--target-dir")
        .arg(cargo::target_folder().unwrap());
    // As in the workspace, so that what both share is not built again.
    command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
    let files = cargo::build(&mut command).unwrap();
    let library = files
        .iter()
        .find(|file| file.ends_with("librequire_header.so"));

    let runner = Runner::with(&[]);
    let bytes = fs::read(library.unwrap()).unwrap();
    runner.setup().lay("librequire_header.so", &bytes);
    runner.log().wait_for(&["require-header 0.1.0 serves"]);
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&[("require-header", r#"{"header": "x-token"}"#)]);
    let refused = gateway.request(token, &Request::get("/")).answer();
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (401, "x-token is missing\n")
    );
    let request = Request::get("/").header("X-Token", "1");
    assert_eq!(gateway.request(token, &request), Reply::Nothing);
}

#[test]
fn the_commands_of_the_readme_that_check_and_call_plugins_work() {
    let readme = fs::read_to_string(cargo::root().join("README.md")).unwrap();
    let commands = block(&readme, "### Check it, call it", "sh");
    let folder = e2e::open_folder();
    let plugins = artifacts::library("stop").parent().unwrap().to_owned();
    fs::create_dir(folder.path().join("target")).unwrap();
    symlink(plugins, folder.path().join("target/plugins")).unwrap();
    let runner = artifacts::runner().parent().unwrap().display();
    let path = format!("{runner}:/usr/bin:/bin");
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-e", "-c", &commands])
        .current_dir(folder.path())
        .env("PATH", path);
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for part in [
        "`start` would serve it",
        "nothing of it ran",
        "is answered with 200",
        "the client gets 401",
        "the client gets 202",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let request = block(&readme, "### Check it, call it", "http");
    assert_eq!(
        plugin_runner::call::Sample::read(&request).unwrap().title(),
        "POST /orders?page=2"
    );
}
