//! A program of ours that serves while a task goes on. Ended when dropped, and asked first.

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::http::{Answer, Client, Request};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A running program.
pub(crate) struct Running {
    child: Child,
    /// Lines of its standard output.
    output: Receiver<String>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("starting {program}"))?;
        let output = child.stdout.take().context("it has no output")?;
        Ok(Self {
            output: lines(output),
            child,
        })
    }

    /// Waits until somebody listens on a Unix socket.
    ///
    /// # Errors
    /// It ends before, or the time is up.
    pub(crate) fn wait_for_socket(&mut self, socket: &Path, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended ({status}) before it accepted");
            }
            if Instant::now() > deadline {
                bail!("nobody listens on {} yet", socket.display());
            }
            std::thread::park_timeout(PAUSE);
        }
        Ok(())
    }

    /// Waits for the line that says where it serves HTTP.
    ///
    /// # Errors
    /// It ends before, or the time is up.
    pub(crate) fn wait_for_address(&mut self, patience: Duration) -> Result<SocketAddr> {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.output.recv_timeout(left);
            let line = line.context("it ended, or its time was up, before it listened")?;
            if let Some(address) = line.strip_prefix("listening on http://") {
                return Ok(address.parse()?);
            }
        }
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.ask_to_end();
        let status = self.child.wait()?;
        if !status.success() {
            bail!("it ended with {status} when it was asked to end");
        }
        Ok(())
    }

    fn ask_to_end(&self) {
        // The standard library knows SIGKILL only; the shell's own `kill` is everywhere.
        let line = format!("kill -TERM {}", self.child.id());
        let asked = Command::new("sh").args(["-c", &line]).status();
        // It may have ended by itself just now.
        let _ = asked;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.ask_to_end();
            let _ = self.child.wait();
        }
    }
}

/// The lines, read on a thread of its own so that nothing waits for us.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    drop(std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody asks any more: the rest is read and forgotten.
            let _ = sender.send(line);
        }
    }));
    receiver
}

/// GETs until the answer is wanted.
///
/// # Errors
/// Nobody answers, or the time is up.
pub(crate) fn get_until(
    address: SocketAddr,
    target: &str,
    patience: Duration,
    wanted: impl Fn(&Answer) -> bool,
) -> Result<Answer> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = Client::connect(address)?.send(&Request::get(target))?;
        if wanted(&answer) {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("GET {target} is still answered with\n{}", answer.text());
        }
        std::thread::park_timeout(PAUSE);
    }
}
