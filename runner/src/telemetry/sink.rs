//! The thread that writes log lines out. The only place that waits for stderr, a pipe or a disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::queue::Queue;
use super::render::{self, Record};
use super::{Sink, Style, TelemetryError};
use crate::config::Level;

/// Lost lines are told this often at most.
const BETWEEN_REPORTS: Duration = Duration::from_secs(5);

/// Where the bytes go, and how to get there again.
enum Output {
    Stderr,
    File { path: PathBuf, file: File },
    Open(File),
}

/// Starts the thread. It ends with the process.
pub(super) fn spawn(sink: Sink, style: Style, queue: Arc<Queue>) -> Result<(), TelemetryError> {
    let output = match sink {
        Sink::Stderr => Output::Stderr,
        Sink::Open(file) => Output::Open(file),
        Sink::File(path) => match open(&path) {
            Ok(file) => Output::File { path, file },
            Err(source) => return Err(TelemetryError::Open { path, source }),
        },
    };
    let thread = std::thread::Builder::new().name("log".into());
    let writer = Writer {
        output,
        style,
        queue,
        dropped: 0,
        reported: None,
    };
    let started = thread.spawn(move || writer.run());
    started.map(drop).map_err(TelemetryError::Thread)
}

/// Not for others to write or read: the gateway may have started us with umask 0.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640).open(path)
}

struct Writer {
    output: Output,
    style: Style,
    queue: Arc<Queue>,
    /// Lines lost and not told yet.
    dropped: u64,
    reported: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let mut spare = Vec::new();
        loop {
            let batch = self.queue.take(spare);
            if batch.reopen {
                self.reopen();
            }
            let written = self.output.write(&batch.bytes);
            self.dropped += self.queue.take_dropped();
            if written.is_ok() {
                self.report_dropped();
            }
            self.queue
                .done(if written.is_ok() { 0 } else { batch.lines });
            spare = batch.bytes;
            spare.clear();
            spare.shrink_to(64 << 10);
        }
    }

    fn report_dropped(&mut self) {
        let recent = |at: Instant| at.elapsed() < BETWEEN_REPORTS;
        if self.dropped == 0 || self.reported.is_some_and(recent) {
            return;
        }
        let message = format!("{} log lines dropped", self.dropped);
        if self.say(message).is_ok() {
            self.dropped = 0;
            self.reported = Some(Instant::now());
        }
    }

    fn reopen(&mut self) {
        let Output::File { path, file } = &mut self.output else {
            return;
        };
        match open(path) {
            Ok(fresh) => *file = fresh,
            Err(error) => {
                let path = path.display();
                let message = format!("cannot open the log file {path} again: {error}");
                // If even the old file takes nothing any more, there is no place to say it.
                let _ = self.say(message);
            }
        }
    }

    /// Writes a line of its own, whatever the level is.
    fn say(&mut self, message: String) -> io::Result<()> {
        let record = Record::new(Level::Warn, "telemetry", message);
        let mut line = render::line(&record, self.style).into_bytes();
        line.push(b'\n');
        self.output.write(&line)
    }
}

impl Output {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let result = match self {
                Self::Stderr => io::stderr().write(bytes),
                Self::File { file, .. } | Self::Open(file) => file.write(bytes),
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whoever shares the pipe with us may have made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let stderr = io::stderr();
        let fd = match self {
            Self::Stderr => stderr.as_fd(),
            Self::File { file, .. } | Self::Open(file) => file.as_fd(),
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
