//! `dev --crate`: what is saved is built and serves; what does not build changes nothing. And the page about it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use e2e::dev::{Dev, command, installed};
use e2e::{artifacts, wait};
use xtask::elsewhere::Copy;

const OLD: &str = "Hello, Rust Runner of APISIX";
const NEW: &str = "Hello from the new build";
const PAGE: &str = "/__plugin_runner";

fn path(copy: &Copy) -> &str {
    copy.folder().to_str().unwrap()
}

#[test]
fn what_is_saved_serves_and_what_does_not_build_leaves_the_old_build_serving() {
    let copy = Copy::new("stop", "dev-saved").unwrap();
    let mut dev = Dev::start(&["--crate", path(&copy)]);
    dev.errors().wait_for(&["every path runs stop"]);
    assert!(dev.get("/a").body.contains(OLD));
    dev.output()
        .wait_for(&["GET /a 200  pre-req: stop answers 200"]);

    copy.replace(OLD, NEW).unwrap();
    dev.wait_for("/b", NEW);
    dev.errors().wait_for(&["stop", "serves: generation 2"]);

    copy.replace(NEW, "\", nonsense, \"").unwrap();
    dev.errors().wait_for(&["\"\", nonsense, \"\""]);
    dev.errors()
        .wait_for(&["stop does not build", "the build before it serves on"]);
    assert!(dev.get("/c").body.contains(NEW));
    let page = dev.wait_for(PAGE, "stop does not build");
    assert!(page.body.contains("nonsense"), "the compiler's own words");

    copy.replace("\", nonsense, \"", "third").unwrap();
    dev.wait_for("/d", "third");
    for line in dev.errors().lines().iter().chain(&dev.output().lines()) {
        assert!(!line.contains('\x1b'), "no colours in a file: {line:?}");
    }
    assert!(dev.stop().success());
}

#[test]
fn what_the_readme_tells_newcomers_works() {
    let folder = tempfile::tempdir().unwrap();
    let target = xtask::cargo::target_folder().unwrap();
    let runner = artifacts::runner();
    xtask::walk::middle(folder.path(), runner, &target).unwrap();
}

#[test]
fn until_the_first_build_is_good_requests_get_503_with_the_reason() {
    let copy = Copy::new("stop", "dev-first").unwrap();
    copy.replace("use plugin_api", "nonsense; use plugin_api")
        .unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let dev = Dev::spawn(&["--crate", path(&copy), "--listen", &address]);
    dev.errors().wait_for(&["waiting for a change"]);
    let answer = e2e::dev::get(&address, "/");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("stop does not build"), "{answer:?}");
    assert!(answer.body.contains("nonsense"), "{answer:?}");
    copy.replace("nonsense; use", "use").unwrap();
    assert!(dev.serving().get("/").body.contains(OLD));
}

#[test]
fn the_page_shows_plugins_generations_and_what_each_plugin_changed() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(
        artifacts::library("rewrite"),
        folder.path().join("librewrite.so"),
    )
    .unwrap();
    let plugins = folder.path().to_str().unwrap();
    let routes = xtask::cargo::root().join("conf/demo.yaml");
    let routes = routes.to_str().unwrap();
    let dev = Dev::start(&["--routes", routes, "--plugins", plugins]);
    let events = dev.events(&format!("{PAGE}/events"));
    events.wait_for(&["event: changed"]);
    assert_eq!(dev.get("/rewrite?colour=blue").status, 200);
    let line = dev.output().wait_for(&["GET /rewrite?colour=blue 200"]);
    assert!(line.contains("pre-req: rewrite ("), "{line}");
    wait::until("the event comes", || {
        (events.with("event: changed").len() > 1).then_some(())
    });

    let page = dev.wait_for(PAGE, "GET /rewrite?colour=blue");
    assert!(page.head.contains("default-src 'none'"), "{}", page.head);
    for part in ["<table id=plugins>", "librewrite.so", "/a6/rust/runner"] {
        assert!(page.body.contains(part), "{part} is not in\n{}", page.body);
    }
    for outside in ["src=", "http://", "https://", "@import", "url("] {
        assert!(!page.body.contains(outside), "{outside} is in the page");
    }
    let state = dev.get(&format!("{PAGE}/state")).body;
    let (_, state) = state.split_once('{').unwrap();
    assert!(state.contains(r#""decision":"continue""#), "{state}");
    assert!(state.contains(r#""what":"path""#), "{state}");
    assert_eq!(dev.get(&format!("{PAGE}/none")).status, 404);
    // It is a path of its own, not a prefix of others.
    assert!(dev.get("/__plugin_runner_of_mine").body.contains("GET /__"));
    in_a_browser(&dev);
}

/// The script runs, events reach it, and what it fetches gets into the document: its title is the newest request.
fn in_a_browser(dev: &Dev) {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let Some(program) = installed(&names) else {
        return e2e::skipped("no headless browser: the page's script is not run");
    };
    let browser = Browser::open(&program, &dev.url(PAGE));
    browser.wait_for_title("GET /__plugin_runner_of_mine");
    assert_eq!(dev.get("/rewrite?colour=red").status, 200);
    browser.wait_for_title("GET /rewrite?colour=red");
}

/// A headless browser that can be asked which pages it shows. It ends when dropped.
struct Browser {
    child: Child,
    profile: tempfile::TempDir,
}

impl Browser {
    fn open(program: &Path, url: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, profile }
    }

    #[track_caller]
    fn wait_for_title(&self, title: &str) {
        let file = self.profile.path().join("DevToolsActivePort");
        wait::until(&format!("the page's title is `{title}`"), || {
            let text = fs::read_to_string(&file).ok()?;
            let address = format!("127.0.0.1:{}", text.lines().next()?);
            let pages = e2e::dev::get(&address, "/json/list").body;
            pages.contains(title).then_some(())
        });
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own processes end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(arguments: &[&str], change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let mut command = command(arguments);
    change(&mut command);
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[track_caller]
fn is_refused(code: i32, arguments: &[&str], change: impl FnOnce(&mut Command), parts: &[&str]) {
    let (status, text) = refused(arguments, change);
    assert_eq!(status, Some(code), "{text}");
    for part in parts.iter().chain(&["hint: "]) {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn what_cannot_be_developed_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let none = none.to_str().unwrap();
    is_refused(64, &["--crate", none], |_| (), &["cannot use the crate"]);

    let rlib = Copy::new("stop", "dev-rlib").unwrap();
    replace_manifest(&rlib, "\"cdylib\", ", "");
    is_refused(
        64,
        &["--crate", path(&rlib)],
        |_| (),
        &["`stop` makes no .so file", "crate-type"],
    );

    let good = Copy::new("stop", "dev-good").unwrap();
    let twin = Copy::new("stop", "dev-twin").unwrap();
    let both = ["--crate", path(&good), "--crate", path(&twin)];
    is_refused(64, &both, |_| (), &["both make the plugin `stop`"]);
    let twice = ["--crate", path(&good), "--crate", path(&good)];
    let (status, text) = refused(&twice, |_| ());
    assert_eq!(status, Some(64), "{text}");
    assert!(text.contains("twice"), "{text}");

    let no_cargo = |command: &mut Command| {
        command.env("CARGO", Path::new(none));
    };
    is_refused(
        1,
        &["--crate", path(&good)],
        no_cargo,
        &["cannot start cargo"],
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    is_refused(
        1,
        &["--crate", path(&good), "--listen", &address],
        |_| (),
        &["cannot listen on", &address],
    );
}

fn replace_manifest(copy: &Copy, old: &str, new: &str) {
    let file = copy.folder().join("Cargo.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(old));
    fs::write(&file, text.replace(old, new)).unwrap();
}
