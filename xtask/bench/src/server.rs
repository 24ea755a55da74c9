//! The servers that are measured: the limit, the runner of this repository, any other that runs already.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::call::{self, Expected};
use crate::load::{self, Calls};

/// How long a server may take to answer its first call.
const START: Duration = Duration::from_secs(300);

/// The configuration of a runner that is measured.
pub const CONFIG: &str = "state:\n  dir: state\nlogging:\n  file: log\n";

/// A server process that ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    command: Command,
}

/// A folder that the worker may enter under another user; short, for the path of a socket.
///
/// # Errors
/// It cannot be made.
pub fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("bench").tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

impl Server {
    /// The limit, which answers every call with `reply`.
    ///
    /// # Errors
    /// It does not start.
    pub fn limit(reply: &[u8]) -> Result<Self> {
        Self::echo("epoll-1", reply)
    }

    /// As [`Server::limit`], on event loops of another of the [kinds](crate::echo::KINDS).
    ///
    /// # Errors
    /// It does not start.
    pub fn echo(kind: &str, reply: &[u8]) -> Result<Self> {
        let folder = folder()?;
        let file = folder.path().join("reply");
        fs::write(&file, reply)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["echo", kind]);
        command.arg(folder.path().join("s")).arg(file);
        let server = Self::spawn(command, folder)?;
        server.wait(|socket| load::one_call(socket, &limit_calls(reply)?).map(drop))?;
        Ok(server)
    }

    /// A runner, through `wrapper` if that is not empty, with the libraries of a folder.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn runner(
        program: &Path,
        plugins: &Path,
        wrapper: &[String],
        more: &[&str],
    ) -> Result<Self> {
        Self::wrapped(program, plugins, wrapper, more, &[])
    }

    /// As [`Server::runner`], with further files beside its configuration, or in its place.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn runner_with(program: &Path, plugins: &Path, files: &[(&str, &str)]) -> Result<Self> {
        Self::wrapped(program, plugins, &[], &[], files)
    }

    fn wrapped(
        program: &Path,
        plugins: &Path,
        wrapper: &[String],
        more: &[&str],
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = folder()?;
        let config = folder.path().join("config.yaml");
        fs::write(&config, CONFIG)?;
        for (name, text) in files {
            fs::write(folder.path().join(name), text)?;
        }
        let mut words = wrapper.iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(["start", "--config"]).arg(&config);
        command.arg("--plugins").arg(plugins).args(more);
        let socket = format!("unix:{}", folder.path().join("s").display());
        command.env("APISIX_LISTEN_ADDRESS", socket);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Self::spawn(command, folder).with_context(|| format!("starting {}", program.display()))
    }

    fn spawn(mut command: Command, folder: TempDir) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        Ok(Self {
            child,
            folder,
            command,
        })
    }

    /// Starts it once more, in the same folder, when it has ended.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// A server that asks for a body of any size and answers with one of `size` bytes.
    ///
    /// # Errors
    /// It does not start.
    pub fn limit_of_bodies(size: usize) -> Result<Self> {
        let folder = folder()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("limit-of-bodies").arg(folder.path().join("s"));
        command.arg(size.to_string());
        let server = Self::spawn(command, folder)?;
        server.wait(|socket| load::connect(socket).map(drop))?;
        Ok(server)
    }

    /// Waits until `ask` succeeds.
    ///
    /// # Errors
    /// The server ends instead, or takes too long: the last reason.
    pub fn wait<T>(&self, mut ask: impl FnMut(&Path) -> Result<T>) -> Result<T> {
        let until = Instant::now() + START;
        loop {
            match ask(&self.socket()) {
                Ok(value) => return Ok(value),
                Err(error) if Instant::now() > until => {
                    let log = fs::read_to_string(self.folder.path().join("log"));
                    bail!("no answer: {error:#}\n{}", log.unwrap_or_default());
                }
                // Short against what is measured, and the CPU is free for the server meanwhile.
                Err(_) => std::thread::park_timeout(Duration::from_micros(200)),
            }
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn end(&mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.pid()) {
            // Fails only if it has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody to tell.
        let _ = self.end();
    }
}

/// What the limit is asked, and what it answers.
///
/// # Errors
/// The call cannot be built.
pub fn limit_calls(reply: &[u8]) -> Result<Calls> {
    Ok(Calls {
        request: call::request(1)?,
        expected: Expected::Canned(reply.to_vec()),
    })
}

/// Prepares a chain and describes its calls.
///
/// # Errors
/// The runner refuses the chain.
pub fn runner_calls(socket: &Path, conf: &[(String, String)], header: &str) -> Result<Calls> {
    calls_of(load::prepare(socket, conf)?, header)
}

/// Describes the calls of a token.
///
/// # Errors
/// The call cannot be built.
pub fn calls_of(token: u32, header: &str) -> Result<Calls> {
    Ok(Calls {
        request: call::request(token)?,
        expected: Expected::Header(header.to_owned()),
    })
}
