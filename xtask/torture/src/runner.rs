//! The runner under torture: its process, its folders, its control socket.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use plugin_runner::config::{self, Config, Sources};
use plugin_runner::supervise::admin::client;
use plugin_runner::supervise::admin::message::{Answer, Request, Status};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// What a runner has whose recovery is measured: ten plugins, the one that is replaced among them.
pub const PLUGINS: [&str; 10] = [
    "misbehaving",
    "stop",
    "say",
    "rewrite",
    "response-rewrite",
    "key-auth",
    "acl",
    "ip-restriction",
    "bot-detection",
    "limit-req",
];

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// Crashes are the test: they end no build. The memory limit is one that a plugin can reach in a moment. A probe that
/// hangs is given up soon, and a good one has time on a busy machine.
const CONFIG: &str = "\
state:
  dir: state
plugins:
  quarantine_crashes: 1000
  quarantine_window: 1s
  probe_deadline: 4s
worker:
  memory_limit: 512MiB
";

/// A runner. It ends with this value.
#[derive(Debug)]
pub struct Runner {
    program: PathBuf,
    child: Child,
    config: Box<Config>,
    folder: TempDir,
}

/// What `reload` says.
#[derive(Debug)]
pub struct Reloaded {
    /// Everything that has changed serves.
    pub done: bool,
    /// What it said.
    pub lines: Vec<String>,
}

impl Runner {
    /// Folders for a runner, with copies of these libraries.
    ///
    /// # Errors
    /// The system refuses.
    pub fn folder(libraries: &[PathBuf]) -> Result<TempDir> {
        // Short: the path of a socket has 107 bytes at most. Open: as root, the worker is somebody else.
        let folder = tempfile::Builder::new().prefix("torture").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        fs::create_dir(folder.path().join("plugins"))?;
        fs::create_dir(folder.path().join("beside"))?;
        for library in libraries {
            let name = library.file_name().context("a library without a name")?;
            fs::copy(library, folder.path().join("plugins").join(name))
                .with_context(|| format!("copying {}", library.display()))?;
        }
        Ok(folder)
    }

    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start(program: &Path, folder: TempDir) -> Result<Self> {
        let path = |name| folder.path().join(name);
        fs::write(path("config.yaml"), CONFIG)?;
        let log = File::create(path("log"))?;
        let mut command = Command::new(program);
        command.args(["start", "--config"]).arg(path("config.yaml"));
        command.arg("--plugins").arg(path("plugins"));
        let socket = format!("unix:{}", path("s").display());
        command.env("APISIX_LISTEN_ADDRESS", &socket);
        command.stdin(Stdio::null()).stdout(log.try_clone()?);
        let child = command.stderr(log).spawn();
        let child = child.with_context(|| format!("starting {}", program.display()))?;
        let sources = Sources::of_process(Some(path("config.yaml")), Some(path("plugins")))?;
        let config = config::load(&sources);
        let config = config.map_err(|faults| anyhow::anyhow!("{faults}"))?;
        let mut runner = Self {
            program: program.to_owned(),
            child,
            config: Box::new(config),
            folder,
        };
        runner.wait("it is ready", |runner| {
            let status = runner.status().ok()?;
            (status.ready && !status.plugins.is_empty()).then_some(())
        })?;
        Ok(runner)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// A file or folder of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The supervisor's process.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The process that runs the plugins; `None` while there is none.
    pub fn worker(&self) -> Option<i32> {
        let mut below = bench::process::tree(self.pid()).into_iter();
        below.find(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "plugin-worker")
        })
    }

    /// Ends the worker with a signal; whether there was one.
    pub fn kill_worker(&self, signal: Signal) -> bool {
        let worker = self.worker().and_then(Pid::from_raw);
        worker.is_some_and(|worker| kill_process(worker, signal).is_ok())
    }

    /// `plugin-runner status`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Status> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(*status),
            other => bail!("`status` was answered with {other:?}"),
        }
    }

    /// `plugin-runner reload`: waits until nothing is left to do.
    ///
    /// # Errors
    /// It does not answer.
    pub fn reload(&self) -> Result<Reloaded> {
        self.done(&Request::Reload { plugin: None })
    }

    /// `plugin-runner reload --recycle`: waits until the old worker is gone.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn recycle(&self) -> Result<Reloaded> {
        let pid = self.pid().to_string();
        let mut command = Command::new(&self.program);
        command.args(["reload", "--recycle", "--pid", &pid, "--config"]);
        let output = command.arg(self.path("config.yaml")).output();
        let output = output.context("starting `plugin-runner reload --recycle`")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        Ok(Reloaded {
            done: output.status.success(),
            lines: said.lines().map(str::to_owned).collect(),
        })
    }

    /// Whether this build of the runner can recycle its worker.
    pub fn can_recycle(&self) -> bool {
        let help = Command::new(&self.program)
            .args(["reload", "--help"])
            .output();
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--recycle"))
    }

    fn done(&self, request: &Request) -> Result<Reloaded> {
        let (done, lines) = match self.ask(request)? {
            Answer::Done { lines } => (true, lines),
            Answer::Failed { lines } => (false, lines),
            Answer::Status(_) => bail!("another question was answered"),
        };
        Ok(Reloaded { done, lines })
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        Ok(client::ask(&self.config, Some(self.child.id()), request)?)
    }

    /// Waits until there is something to see.
    ///
    /// # Errors
    /// It ends instead, or a minute passes.
    pub fn wait<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let until = Instant::now() + START;
        loop {
            if let Some(seen) = look(self) {
                return Ok(seen);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the runner ended ({status}):\n{}", self.last_lines());
            }
            ensure!(
                Instant::now() < until,
                "waited in vain until {what}:\n{}",
                self.last_lines()
            );
            std::thread::park_timeout(LOOK);
        }
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Lines of its log that have this text.
    pub fn said(&self, text: &str) -> usize {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Keeps its log in a file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_log(&self, file: &Path) -> Result<()> {
        fs::copy(self.path("log"), file).with_context(|| format!("writing {}", file.display()))?;
        Ok(())
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Its worker ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
