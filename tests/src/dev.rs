//! `plugin-runner dev` as a child process, and a small HTTP client for it. It ends with the test; what it said is
//! printed when the test fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use xtask::cargo;

use crate::log::Log;
use crate::runner::signal_process;
use crate::{artifacts, wait};

/// Longer than the runner's own deadline for a call.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A running `dev`.
pub struct Dev {
    child: Child,
    output: Log,
    errors: Log,
    address: String,
    _folder: TempDir,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Lower case.
    pub head: String,
    pub body: String,
}

/// The command with these arguments; on a free port if they name none.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(artifacts::runner());
    command.arg("dev").args(arguments).stdin(Stdio::null());
    if !arguments.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    // What the workspace has built is not built again.
    command.env("CARGO_TARGET_DIR", cargo::target_folder().unwrap());
    command.env("NO_COLOR", "").env_remove("RUST_BACKTRACE");
    command
}

impl Dev {
    /// Starts it in a folder of its own.
    #[track_caller]
    pub fn spawn(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(arguments)
            .env("XDG_STATE_HOME", folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            output: Log::of(child.stdout.take().unwrap()),
            errors: Log::of(child.stderr.take().unwrap()),
            address: String::new(),
            child,
            _folder: folder,
        }
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(arguments).serving()
    }

    /// Waits until it serves.
    #[track_caller]
    pub fn serving(mut self) -> Self {
        let line = self.output.wait_for(&["listening on http://"]);
        let (_, address) = line.split_once("http://").unwrap();
        address.clone_into(&mut self.address);
        self
    }

    /// Requests, a line each.
    pub fn output(&self) -> &Log {
        &self.output
    }

    /// Everything else.
    pub fn errors(&self) -> &Log {
        &self.errors
    }

    /// `http://…` of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// GETs a path.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        get(&self.address, path)
    }

    /// GETs a path until the answer's body contains the text.
    #[track_caller]
    pub fn wait_for(&self, path: &str, text: &str) -> Answer {
        wait::until(&format!("{path} has `{text}`"), || {
            let answer = self.get(path);
            answer.body.contains(text).then_some(answer)
        })
    }

    /// Server-sent events: the lines of the stream as they come.
    #[track_caller]
    pub fn events(&self, path: &str) -> Log {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Log::of(stream)
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        signal_process(self.child.id(), rustix::process::Signal::TERM);
        let child = &mut self.child;
        wait::until("dev has ended", || child.try_wait().unwrap())
    }
}

/// One GET of a server at an address.
#[track_caller]
pub fn get(address: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let (mut head, mut length) = (String::new(), None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<usize>().unwrap());
        }
        head.push_str(&line);
        head.push('\n');
    }
    let mut body = vec![0; length.unwrap_or_default()];
    match length {
        Some(_) => reader.read_exact(&mut body).unwrap(),
        // Up to the end; chunks as they are.
        None => drop(reader.read_to_end(&mut body).unwrap()),
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Answer { status, head, body }
}

/// The first of these programs that is installed.
pub fn installed(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut files = programs
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    files.find(|file: &PathBuf| Path::is_file(file))
}

impl Drop for Dev {
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    fn drop(&mut self) {
        // Its runner ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("dev said:\n{}", self.errors.lines().join("\n"));
            println!("{}", self.output.lines().join("\n"));
        }
    }
}
