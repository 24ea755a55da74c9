//! The local gateway as a child process, with the runner as its own child. Ended when dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cargo;
use crate::http::Client;

const ADDRESS: &str = "127.0.0.1:9080";
const ANY_ADDRESS: &str = "127.0.0.1:0";

/// A running gateway.
pub(super) struct Gateway {
    child: Child,
    address: SocketAddr,
    place: Place,
}

/// What it is made of.
struct Place {
    runner: PathBuf,
    plugins: PathBuf,
}

impl Gateway {
    /// Starts `plugin-runner dev` on a folder of plugins and waits until it accepts.
    ///
    /// # Errors
    /// It ends before it listens.
    pub(super) fn start(runner: &Path, plugins: &Path, any_port: bool) -> Result<Self> {
        let free = !any_port && TcpListener::bind(ADDRESS).is_ok();
        let place = Place {
            runner: runner.to_path_buf(),
            plugins: plugins.to_path_buf(),
        };
        let mut child = place
            .command(if free { ADDRESS } else { ANY_ADDRESS })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", runner.display()))?;
        let output = child.stdout.take().context("the gateway has no output")?;
        let mut output = BufReader::new(output);
        let address = match listening(&mut output) {
            Ok(address) => address,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        // A line for each request: thousands, which nobody wants to see now. Ends with the gateway.
        drop(std::thread::spawn(move || output.lines().count()));
        Ok(Self {
            child,
            address,
            place,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection.
    ///
    /// # Errors
    /// It does not accept any more.
    pub(super) fn client(&self) -> Result<Client> {
        Client::connect(self.address)
    }

    /// Goes on as the gateway itself, in this very process: Ctrl-C and every other signal reach it, and nothing is left
    /// behind. A new one takes the old one's place and shows its requests.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn become_it(mut self) -> Result<()> {
        end(&mut self.child);
        let error = self.place.command(&self.address.to_string()).exec();
        Err(error).with_context(|| format!("starting {}", self.place.runner.display()))
    }
}

impl Place {
    fn command(&self, address: &str) -> Command {
        let mut command = Command::new(&self.runner);
        command.args(["dev", "--listen", address, "--routes"]);
        command.arg(cargo::root().join("conf/demo.yaml"));
        command.arg("--plugins").arg(&self.plugins);
        command
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends the gateway, which ends its runner: SIGTERM, so that it can.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(None)) {
        // The standard library knows SIGKILL only; the shell's own `kill` is everywhere.
        let asked = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", child.id())])
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            // It ended by itself just now, or there is no shell: nothing is lost by asking harder.
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

/// The address in the line that says where it listens.
fn listening(output: &mut BufReader<ChildStdout>) -> Result<SocketAddr> {
    for line in output.lines() {
        let line = line?;
        println!("    {line}");
        if let Some(address) = line.strip_prefix("listening on http://") {
            return Ok(address.parse()?);
        }
    }
    bail!("the gateway ended before it listened: its reason is above")
}
