//! The runner as a child of the local gateway: started, waited for, started again, ended.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::inspect::Inspector;
use super::screen::Screen;
use super::{Options, runner_log};

const START_DEADLINE: Duration = Duration::from_secs(10);
/// gateway: a runner that ended is started again 3 s later.
pub(super) const RESPAWN_DELAY: Duration = Duration::from_secs(3);
/// The gateway sends SIGKILL after 1 s; a developer wants to see a plugin's last words.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// What a runner is started into.
pub(super) struct World {
    pub(super) socket: PathBuf,
    /// `None`: as its configuration says.
    pub(super) plugins: Option<PathBuf>,
    pub(super) screen: Screen,
    pub(super) inspector: Arc<Inspector>,
}

/// A folder of our own for the socket and what we build; removed with everything in it when dropped.
pub(super) struct OwnFolder(PathBuf);

impl OwnFolder {
    pub(super) fn create() -> anyhow::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("plugin-runner-dev-{}", super::random_hex(16)));
        // Searchable: else the runner warns that gateways of other users cannot reach the socket.
        let made = DirBuilder::new().mode(0o711).create(&path);
        made.with_context(|| format!("cannot create the socket's folder {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("runner.sock")
    }

    /// A plugins folder in it.
    pub(super) fn plugins(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("plugins");
        let made = DirBuilder::new().mode(0o755).create(&path);
        made.with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Where routes go that nobody has written.
    pub(super) fn routes(&self) -> PathBuf {
        self.0.join("apisix.yaml")
    }
}

impl Drop for OwnFolder {
    fn drop(&mut self) {
        // Best effort: a left-over folder in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running runner. What it writes comes to us.
pub(super) struct Runner {
    child: Child,
}

impl Runner {
    /// Starts `start` of this very program, as the gateway would, with what people who develop need.
    pub(super) fn spawn(options: &Options, world: &World) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(&program);
        command.args(["start", "--exit-with-parent", "--steps"]);
        for (flag, value) in [("--config", &options.config), ("--plugins", &world.plugins)] {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        let mut address = std::ffi::OsString::from("unix:");
        address.push(&world.socket);
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command
            .env("APISIX_LISTEN_ADDRESS", address)
            .env("APISIX_CONF_EXPIRE_TIME", "3600")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            // A group of its own: Ctrl-C reaches us only, and we pass it on as SIGTERM.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        // The command holds writing ends of the pipe, which would never end.
        drop(command);
        runner_log::follow(reader, world.screen, world.inspector.journal.clone())?;
        world.inspector.runner_is(child.id());
        Ok(Self { child })
    }

    /// Waits until the socket accepts. Fails when the runner ends first or 10 s are over.
    pub(super) async fn wait_until_accepting(&mut self, socket: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        while UnixStream::connect(socket).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the runner ended before it accepted a connection ({status})");
            }
            if Instant::now() > deadline {
                bail!(
                    "the runner did not accept a connection on {} within 10 s",
                    socket.display()
                );
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Resolves when the runner has ended, with a description of how.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => sleep(POLL).await,
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Ends the runner: SIGTERM, then SIGKILL after 5 s.
    pub(super) async fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        // It may have ended just now; then there is nothing to signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        if tokio::time::timeout(STOP_DEADLINE, self.ended())
            .await
            .is_err()
        {
            self.end_now();
        }
    }

    fn end_now(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Runner {
    /// Leaves no process behind on an early return.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end_now();
        }
    }
}
