//! The harness of the end-to-end tests: the real runner as a child process, real libraries, and a gateway that speaks
//! to it over its real socket. A test says what happens in one line for each fact; waiting is always for a condition,
//! with a deadline.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, and says where"
)]

pub mod artifacts; // the runner and the libraries, built once
pub mod bindings; // a file with bindings
pub mod captures; // what a real gateway was recorded to send
pub mod command; // commands that ask a running runner
pub mod dev; // the local gateway as a child process
pub mod effect; // what a reply makes of a request or response
pub mod flat; // a reader of FlatBuffers that shares nothing with the runner's
pub mod frozen; // plugins and runners of kept versions of the ABI
pub mod gateway; // the other end of the socket
pub mod load; // what a process takes
pub mod log; // what the runner says
pub mod message; // what the two ends say to each other
pub mod runner; // the runner as a child process
pub mod wait; // until a condition holds

/// A folder of a test's own that every user may search: plugins do not run as root.
pub fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    folder
}

/// Says in one line that a test cannot run here.
pub fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    say(&format!("skipped: {name}: {reason}"));
}

/// Says something past the test harness, which keeps what a test prints to itself.
pub fn say(line: &str) {
    use std::io::Write;
    // If nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "{line}");
}
