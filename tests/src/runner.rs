//! The runner as a child process: its own folder, socket, configuration and log. It ends with the test; its log is
//! printed when the test fails.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::artifacts;
use crate::gateway::Gateway;
use crate::log::Log;
use crate::wait;

/// A runner that is not started yet.
pub struct Setup {
    folder: TempDir,
    config: String,
    /// The executable, and what it is started through.
    program: Vec<OsString>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// A folder with these plugins in it.
    pub fn with(plugins: &[&str]) -> Self {
        // Short: the path of a socket has 107 bytes at most. Open: as root, the worker is somebody else.
        let folder = tempfile::Builder::new().prefix("e2e").tempdir().unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).unwrap();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        let setup = Self {
            folder,
            config: String::new(),
            program: vec![artifacts::runner().into()],
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        for plugin in plugins {
            setup.install(plugin);
        }
        setup
    }

    /// Adds sections to the configuration; `state` is there already.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self
    }

    /// Starts another build of the runner.
    #[must_use]
    pub fn executable(mut self, executable: PathBuf) -> Self {
        self.program = vec![executable.into()];
        self
    }

    /// Starts it through another program; called again, it adds arguments for that.
    #[must_use]
    pub fn wrapped(mut self, program: &[&str]) -> Self {
        let at = self.program.len() - 1;
        let words = program.iter().map(OsString::from);
        self.program.splice(at..at, words);
        self
    }

    /// Adds an argument to `start`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Adds a variable to an environment that is empty but for what the gateway sets.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The plugins folder.
    pub fn plugins(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// Where the runner listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Lays a plugin into the folder.
    pub fn install(&self, plugin: &str) {
        let library = artifacts::library(plugin);
        let name = library.file_name().unwrap().to_str().unwrap();
        self.lay(name, &fs::read(&library).unwrap());
    }

    /// Lays a file into the plugins folder: written elsewhere, then renamed.
    pub fn lay(&self, name: &str, bytes: &[u8]) {
        let unfinished = self.folder.path().join(format!(".{name}"));
        fs::write(&unfinished, bytes).unwrap();
        fs::rename(unfinished, self.plugins().join(name)).unwrap();
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let config = self.folder.path().join("config.yaml");
        fs::write(&config, format!("state:\n  dir: state\n{}", self.config)).unwrap();
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        command.args(["start", "--config"]).arg(config);
        command.arg("--plugins").arg(self.plugins());
        command
            .args(&self.arguments)
            .current_dir(self.folder.path());
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.env(
            "APISIX_LISTEN_ADDRESS",
            format!("unix:{}", self.socket().display()),
        );
        command.env("APISIX_CONF_EXPIRE_TIME", "3600");
        command.envs(std::env::vars_os().filter(|(name, _)| name == "ASAN_OPTIONS"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it accepts.
    ///
    /// # Panics
    /// It ends instead.
    #[track_caller]
    pub fn start(self) -> Runner {
        let mut runner = self.spawn();
        let socket = runner.setup.socket();
        wait::until_ok("the runner accepts", || {
            if let Some(status) = runner.child.try_wait().unwrap() {
                panic!("the runner ended at once: {status}");
            }
            UnixStream::connect(&socket)
        });
        runner
    }

    /// Starts it, and waits for nothing.
    pub fn spawn(self) -> Runner {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().expect("the runner starts");
        // The command holds the writing ends: the log would never end.
        drop(command);
        Runner {
            setup: self,
            child,
            log: Log::of(reader),
        }
    }
}

/// A running runner.
pub struct Runner {
    setup: Setup,
    child: Child,
    log: Log,
}

impl Runner {
    /// One with these plugins, that accepts.
    #[track_caller]
    pub fn with(plugins: &[&str]) -> Self {
        Setup::with(plugins).start()
    }

    /// Its folder, to change what is in it.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A new connection to it.
    #[track_caller]
    pub fn gateway(&self) -> Gateway {
        Gateway::connect(&self.setup.socket())
    }

    /// What it says.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process of the supervisor.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that the supervisor has started and that still run.
    pub fn children(&self) -> Vec<u32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid()));
        let tasks = tasks.into_iter().flatten().flatten();
        let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        let text: Vec<_> = texts.collect();
        let pids = text.iter().flat_map(|text| text.split_whitespace());
        pids.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The process that runs the plugins.
    #[track_caller]
    pub fn worker(&self) -> u32 {
        let is_worker = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.trim() == "plugin-worker")
        };
        wait::until("there is a worker", || {
            self.children().into_iter().find(is_worker)
        })
    }

    /// Starts it again, in the same folder, after it has ended.
    #[track_caller]
    pub fn restart(mut self) -> Self {
        let setup = std::mem::replace(&mut self.setup, Setup::with(&[]));
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        setup.start()
    }

    /// Asks it at the command line: runs `plugin-runner` with its configuration.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(artifacts::runner());
        let config = self.setup.folder().join("config.yaml");
        command.args(arguments).arg("--config").arg(config);
        command.env_clear().output().unwrap()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_process(self.pid(), signal);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait::until("the runner has ended", || child.try_wait().unwrap())
    }

    /// Lays a build of the plugin `misbehaving` with this mark into the folder.
    pub fn lay_mark(&self, mark: &str) {
        self.setup
            .lay("libmisbehaving.so", &artifacts::marked(mark));
    }
}

/// Sends a signal to a process.
pub fn signal_process(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).expect("the process is there");
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|state| !state.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

impl Drop for Runner {
    #[expect(clippy::print_stdout, reason = "a failed test shows it")]
    fn drop(&mut self) {
        // Its worker ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("the runner said:\n{}", self.log.lines().join("\n"));
        }
    }
}
