//! The ways in which people put a library in the place of another: with tools, slowly, wrongly. No call fails on the way.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::artifacts::marked;
use e2e::gateway::Gateway;
use e2e::message::Request;
use e2e::runner::{Runner, Setup};
use e2e::wait;

const MARK: [(&str, &str); 1] = [("misbehaving", r#"{"mode": "mark"}"#)];
const FIRST: &str = "mark-of-the-file";
const NEXT: &str = "mark-number-0001";
const LAST: &str = "mark-number-0002";

/// A runner whose library is replaced, and a connection that calls it all the time.
struct Replacing {
    runner: Runner,
    gateway: Gateway,
    token: u32,
}

impl Replacing {
    fn new() -> Self {
        let runner = Runner::with(&["misbehaving"]);
        let mut gateway = runner.gateway();
        let token = gateway.prepare(&MARK);
        let mut this = Self {
            runner,
            gateway,
            token,
        };
        assert_eq!(this.call(), FIRST);
        this
    }

    #[track_caller]
    fn call(&mut self) -> String {
        self.gateway.request(self.token, &Request::get("/")).text()
    }

    fn target(&self) -> PathBuf {
        self.runner.setup().plugins().join("libmisbehaving.so")
    }

    /// Writes a build beside the folder.
    fn beside(&self, name: &str, mark: &str) -> PathBuf {
        let file = self.runner.setup().folder().join(name);
        fs::write(&file, marked(mark)).unwrap();
        file
    }

    /// Every call is answered, by `before` until it is by `after`.
    #[track_caller]
    fn until_marked(&mut self, before: &str, after: &str) {
        wait::until(&format!("`{after}` serves"), || {
            let text = self.call();
            assert!(text == before || text == after, "`{text}` answers");
            (text == after).then_some(())
        });
    }

    /// Every call is answered by `mark` for this long.
    #[track_caller]
    fn stays(&mut self, mark: &str, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            assert_eq!(self.call(), mark);
        }
    }
}

/// Runs a tool that every system has.
#[track_caller]
fn tool(name: &str, arguments: &[&Path]) {
    let mut words = name.split(' ');
    let status = Command::new(words.next().unwrap())
        .args(words)
        .args(arguments)
        .status();
    assert!(status.unwrap().success(), "{name}");
}

#[test]
fn every_tool_that_replaces_a_file_replaces_the_plugin() {
    for tool_and_arguments in [
        "cp",
        "mv",
        "install",
        "cp --remove-destination",
        "ln -f",
        "ln -sfn",
    ] {
        let mut replacing = Replacing::new();
        let (next, target) = (replacing.beside("next.so", NEXT), replacing.target());
        tool(tool_and_arguments, &[&next, &target]);
        replacing.until_marked(FIRST, NEXT);
    }
}

#[test]
fn a_link_that_is_turned_elsewhere_is_followed() {
    let mut replacing = Replacing::new();
    let target = replacing.target();
    for (name, before, after) in [("one.so", FIRST, NEXT), ("two.so", NEXT, LAST)] {
        let file = replacing.beside(name, after);
        tool("ln -sfn", &[&file, &target]);
        replacing.until_marked(before, after);
    }
}

#[test]
fn what_a_build_tool_links_hard_again_and_again_is_taken_up_each_time() {
    // cargo writes the library under a name of its own and links it, after it has removed the old name.
    let mut replacing = Replacing::new();
    let target = replacing.target();
    for (name, before, after) in [("deps-1.so", FIRST, NEXT), ("deps-2.so", NEXT, LAST)] {
        let file = replacing.beside(name, after);
        fs::remove_file(&target).unwrap();
        fs::hard_link(&file, &target).unwrap();
        replacing.until_marked(before, after);
    }
}

#[test]
fn a_copy_that_takes_seconds_is_taken_up_when_it_is_whole() {
    let mut replacing = Replacing::new();
    let bytes = marked(NEXT);
    let target = replacing.target();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).truncate(true).open(&target).unwrap();
    for part in bytes.chunks(bytes.len() / 4 + 1) {
        file.write_all(part).unwrap();
        // Longer than it has to be quiet before the folder is looked at: what is there then is no library.
        replacing.stays(FIRST, Duration::from_millis(300));
        if file.metadata().unwrap().len() as usize + bytes.len() / 4 >= bytes.len() {
            break;
        }
    }
    let written = file.metadata().unwrap().len() as usize;
    file.write_all(&bytes[written..]).unwrap();
    drop(file);
    replacing.until_marked(FIRST, NEXT);
}

#[test]
fn a_link_to_nothing_is_a_file_that_is_gone_for_the_moment() {
    let mut replacing = Replacing::new();
    let target = replacing.target();
    fs::remove_file(&target).unwrap();
    symlink("nothing.so", &target).unwrap();
    replacing.stays(FIRST, Duration::from_millis(500));
    let file = replacing.beside("next.so", NEXT);
    fs::rename(file, replacing.runner.setup().plugins().join("nothing.so")).unwrap();
    // Both names lead to it now, and one of them serves.
    replacing.until_marked(FIRST, NEXT);
}

#[test]
fn a_file_that_cannot_be_read_or_trusted_changes_nothing_until_it_can() {
    let mut replacing = Replacing::new();
    let (target, next) = (replacing.target(), replacing.beside("next.so", NEXT));
    // Root reads everything; there it is a file of somebody else.
    let root = rustix::process::geteuid().is_root();
    if root {
        chown(&next, Some(12345), None).unwrap();
    } else {
        fs::set_permissions(&next, fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::rename(&next, &target).unwrap();
    replacing
        .runner
        .log()
        .wait_for(&["WARN", "libmisbehaving.so", "hint"]);
    replacing.stays(FIRST, Duration::from_millis(200));
    if root {
        chown(&target, Some(0), None).unwrap();
    } else {
        fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
    }
    replacing.until_marked(FIRST, NEXT);
}

#[test]
fn a_release_under_a_name_of_its_own_takes_over_when_the_old_name_goes() {
    let setup = Setup::with(&[]);
    setup.lay("libmisbehaving-1.0.so", &marked(NEXT));
    let runner = setup.start();
    let mut gateway = runner.gateway();
    let token = gateway.prepare(&MARK);
    assert_eq!(gateway.request(token, &Request::get("/")).text(), NEXT);
    // Both within a moment, in either order: no call fails, and the new one serves at the end.
    runner.setup().lay("libmisbehaving-1.1.so", &marked(LAST));
    fs::remove_file(runner.setup().plugins().join("libmisbehaving-1.0.so")).unwrap();
    wait::until("the new release serves", || {
        let text = gateway.request(token, &Request::get("/")).text();
        (text == LAST).then_some(())
    });
}
