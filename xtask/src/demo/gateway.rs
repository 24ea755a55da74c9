//! The local gateway as a child process, with the runner as its own child. Ended when dropped.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};

use super::http::Client;
use crate::cargo;

const ADDRESS: &str = "127.0.0.1:9080";
const ANY_ADDRESS: &str = "127.0.0.1:0";

/// A running gateway.
pub(super) struct Gateway {
    child: Child,
    address: SocketAddr,
    /// Whether the lines it prints for each request are shown.
    talks: Arc<AtomicBool>,
}

impl Gateway {
    /// Starts `plugin-runner dev` on a folder of plugins and waits until it accepts.
    ///
    /// # Errors
    /// It ends before it listens.
    pub(super) fn start(runner: &Path, plugins: &Path, any_port: bool) -> Result<Self> {
        let free = !any_port && TcpListener::bind(ADDRESS).is_ok();
        let mut child = Command::new(runner)
            .args([
                "dev",
                "--listen",
                if free { ADDRESS } else { ANY_ADDRESS },
                "--routes",
            ])
            .arg(cargo::root().join("conf/demo.yaml"))
            .arg("--plugins")
            .arg(plugins)
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
        let talks = Arc::new(AtomicBool::new(false));
        // Ends with the gateway's output.
        drop(std::thread::spawn({
            let talks = talks.clone();
            move || print(output, &talks)
        }));
        Ok(Self {
            child,
            address,
            talks,
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

    /// Shows its requests until it ends: Ctrl-C on the terminal reaches it as well as us.
    ///
    /// # Errors
    /// It fails.
    pub(super) fn wait(mut self) -> Result<()> {
        self.talks.store(true, Ordering::Relaxed);
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the gateway failed ({status})");
        }
        Ok(())
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

fn print(output: BufReader<ChildStdout>, talks: &AtomicBool) {
    for line in output.lines().map_while(Result::ok) {
        if talks.load(Ordering::Relaxed) {
            println!("    {line}");
        }
    }
}
