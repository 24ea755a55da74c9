//! A runner with a folder of its own; killed when dropped, and its log is shown if the test fails.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use plugin_runner::config::Config;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::fake::Library;

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Runner {
    pub(crate) config: Config,
    pub(crate) options: &'static str,
    place: tempfile::TempDir,
    running: RefCell<Option<Running>>,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    log: String,
}

impl Runner {
    pub(crate) fn with(libraries: &[(&str, Library)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.socket.file = place.path().join("s");
        config.plugins.dir = Some(place.path().join("plugins"));
        config.state.dir = Some(place.path().join("state"));
        fs::create_dir(place.path().join("plugins")).unwrap();
        let runner = Self {
            config,
            options: "",
            place,
            running: RefCell::new(None),
        };
        for (name, library) in libraries {
            runner.install_bytes(name, &library.bytes());
        }
        runner
    }

    pub(crate) fn start(&self) {
        self.start_by(Command::new(std::env::current_exe().unwrap()));
    }

    /// Its parent is a shell of this name, which waits for it.
    pub(crate) fn start_as_child_of(&self, name: &str) {
        let shell = self.place.path().join(name);
        fs::copy("/bin/sh", &shell).unwrap();
        let mut command = Command::new(shell);
        command.arg("-c").arg("\"$0\" \"$@\" & wait");
        command.arg(std::env::current_exe().unwrap());
        self.start_by(command);
    }

    fn start_by(&self, mut command: Command) {
        let mut child = command
            .arg("start")
            .arg(self.options)
            .arg(serde_json::to_string(&self.config).unwrap())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = channel();
        thread::spawn(move || {
            errors
                .lines()
                .map_while(Result::ok)
                .all(|line| tell.send(line).is_ok())
        });
        *self.running.borrow_mut() = Some(Running {
            child,
            lines,
            log: String::new(),
        });
        wait_for("the socket", || self.socket().exists());
    }

    pub(crate) fn install(&self, name: &str, library: Library) {
        self.install_bytes(name, &library.bytes());
    }

    /// Written elsewhere and renamed, as an author should.
    pub(crate) fn install_bytes(&self, name: &str, bytes: &[u8]) {
        let temporary = self.place.path().join("temporary");
        fs::write(&temporary, bytes).unwrap();
        fs::rename(temporary, self.place.path().join("plugins").join(name)).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.place.path().join("plugins").join(name)).unwrap();
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.place.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.config.socket.file.clone()
    }

    pub(crate) fn send(&self, question: &str) -> UnixStream {
        let mut connection = UnixStream::connect(self.socket()).unwrap();
        connection.set_read_timeout(Some(DEADLINE)).unwrap();
        writeln!(connection, "{question}").unwrap();
        connection
    }

    #[track_caller]
    pub(crate) fn ask(&self, question: &str) -> String {
        answer(self.send(question))
    }

    /// Until the worker is gone: a connection that it still accepted would be lost with it.
    pub(crate) fn crash(&self) {
        self.crash_by("crash");
    }

    /// A crash in the code of a plugin.
    pub(crate) fn crash_in(&self, plugin: &str) {
        self.crash_by(&format!("crash {plugin}"));
    }

    fn crash_by(&self, question: &str) {
        let mut connection = self.send(question);
        let ended = connection.read(&mut [0]);
        assert!(!matches!(ended, Ok(1)), "it answered");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.borrow().as_ref().unwrap().child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        let mut running = self.running.borrow_mut();
        let running = running.as_mut().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !running.log.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = running.lines.recv_timeout(left) else {
                panic!("`{text}` was not logged");
            };
            running.log += &(line + "\n");
        }
    }

    /// The number that follows a text in the log.
    pub(crate) fn number_after(&self, text: &str) -> i32 {
        let running = self.running.borrow();
        let log = &running.as_ref().unwrap().log;
        let number = &log[log.find(text).unwrap() + text.len()..];
        let end = number.find(|letter: char| !letter.is_ascii_digit());
        number[..end.unwrap_or(number.len())].parse().unwrap()
    }

    /// A child of the runner, by its name.
    pub(crate) fn child_named(&self, name: &str) -> Option<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let children = tasks.flatten().filter_map(|task| {
            let children = fs::read_to_string(task.path().join("children")).ok()?;
            let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
            Some(children.collect::<Vec<i32>>())
        });
        children.flatten().find(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.trim() == name)
        })
    }

    /// How often something was logged, up to now.
    pub(crate) fn logged(&self, text: &str) -> usize {
        let mut running = self.running.borrow_mut();
        let running = running.as_mut().unwrap();
        while let Ok(line) = running.lines.try_recv() {
            running.log += &(line + "\n");
        }
        running.log.matches(text).count()
    }

    #[track_caller]
    pub(crate) fn wait_until_gone(&self) {
        let mut running = self.running.borrow_mut();
        let child = &mut running.as_mut().unwrap().child;
        let mut status = None;
        wait_for("its end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
    }

    pub(crate) fn copies(&self) -> usize {
        let libraries = self.place.path().join("state/libraries");
        fs::read_dir(libraries).unwrap().count()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.child.kill();
        let _ = running.child.wait();
        if thread::panicking() {
            while let Ok(line) = running.lines.recv_timeout(Duration::from_millis(500)) {
                running.log += &(line + "\n");
            }
            eprintln!("the runner's log:\n{}", running.log);
        }
    }
}

#[track_caller]
pub(crate) fn answer(mut connection: UnixStream) -> String {
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(
        answer.ends_with('\n'),
        "the connection ended without an answer"
    );
    answer.trim_end().to_owned()
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let zombie =
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
    !zombie && test_kill_process(Pid::from_raw(pid).unwrap()).is_ok()
}

/// Ends a process that is not our child, and waits for that.
pub(crate) fn end(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    wait_for("its end", || !is_alive(pid));
}

/// A PREPARE_CONF payload without a conf, in hex digits.
pub(crate) fn conf(key: &str) -> String {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let key = builder.create_string(key);
    let message = builder.start_table();
    builder.push_slot_always(6, key); // the second field of PrepareConf.Req
    let message = builder.end_table(message);
    builder.finish_minimal(message);
    hex(builder.finished_data())
}

/// The same with one.
pub(crate) fn conf_of(key: &str, plugin: &str, value: &str) -> String {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    let (name, value) = (builder.create_string(plugin), builder.create_string(value));
    let entry = builder.start_table();
    builder.push_slot_always(4, name);
    builder.push_slot_always(6, value);
    let entry = builder.end_table(entry);
    let (key, conf) = (builder.create_string(key), builder.create_vector(&[entry]));
    let message = builder.start_table();
    builder.push_slot_always(4, conf);
    builder.push_slot_always(6, key);
    let message = builder.end_table(message);
    builder.finish_minimal(message);
    hex(builder.finished_data())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
