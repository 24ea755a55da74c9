//! Log lines: from tracing events to stderr, a file or the supervisor's pipe. Never blocks the
//! thread that logs, never ends the process, knows nothing of what it logs.
//!
//! `layer` collects an event and its spans into a record, `render` makes a line of it, `queue`
//! holds lines until the thread in `sink` has written them.

mod layer;
mod plugin_event;
mod queue;
mod render;
mod repeated;
mod sink;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::{Format, Level, Logging};
use layer::LogLayer;
pub use plugin_event::{PluginEvent, plugin_event};
use queue::Queue;
pub use repeated::Repeated;

/// How long the end of the process waits for lines that are not written yet. Short: the gateway
/// kills us one second after it asked us to leave.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The target of the line about a call: its `fields` are a JSON object that plugins have filled.
pub const CALL_TARGET: &str = "plugin_runner::call";

/// The target of the lines about a plugin's step in a call, for `dev`.
pub const STEP_TARGET: &str = "plugin_runner::step";

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// The form of a line, decided. The supervisor decides it for the worker too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// For people at a terminal: coloured, line breaks kept.
    Terminal,
    /// One line of text per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub enum Sink {
    Stderr,
    /// Appended to, created with mode 0640, opened again by [`Telemetry::reopen`].
    File(PathBuf),
    /// A file or pipe that is open already: the worker's way to the supervisor.
    Open(std::fs::File),
}

/// Lines of this process for which there was no room, or that could not be written, since its start.
pub fn dropped() -> u64 {
    queue::DROPPED.load(Ordering::Relaxed)
}

/// What cannot be logged to.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot open the log file {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that writes log lines")]
    Thread(#[source] io::Error),
    #[error("logging was set up twice in one process")]
    Twice,
}

/// The process's log. Dropping it waits up to 200 ms for lines that are not written yet.
pub struct Telemetry {
    lines: Lines,
    style: Style,
}

/// Takes lines that are finished: the supervisor passes the worker's on with it.
#[derive(Clone)]
pub struct Lines(Arc<Queue>);

impl Sink {
    /// Where the configuration wants lines to go.
    pub fn of(logging: &Logging) -> Self {
        logging.file.clone().map_or(Self::Stderr, Self::File)
    }
}

impl Style {
    /// The style that `format` means for this sink.
    pub fn of(format: Format, sink: &Sink) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text => Self::Text,
            Format::Auto if sink.is_colour_terminal() => Self::Terminal,
            Format::Auto => Self::Text,
        }
    }
}

impl Sink {
    /// `NO_COLOR` (no-color.org) and `TERM=dumb` turn colours off.
    fn is_colour_terminal(&self) -> bool {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        matches!(self, Self::Stderr) && io::stderr().is_terminal() && !plain
    }
}

impl Telemetry {
    /// [`Self::init`] as the configuration wants it.
    ///
    /// # Errors
    /// As `init`.
    pub fn of(logging: &Logging) -> Result<Self, TelemetryError> {
        let sink = Sink::of(logging);
        Self::init(logging.level, Style::of(logging.format, &sink), sink)
    }

    /// Sets up the log of this process: from here on every tracing event becomes a line, and so
    /// does a panic. Starts one thread.
    ///
    /// # Errors
    /// When the log file cannot be opened, or when it was set up before.
    pub fn init(level: Level, style: Style, sink: Sink) -> Result<Self, TelemetryError> {
        let (telemetry, layer) = Self::new(style, sink)?;
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Twice)?;
        set_level(level);
        std::panic::set_hook(Box::new(log_panic));
        Ok(telemetry)
    }

    fn new(style: Style, sink: Sink) -> Result<(Self, LogLayer), TelemetryError> {
        let queue = Arc::new(Queue::new());
        sink::spawn(sink, style, Arc::clone(&queue))?;
        let layer = LogLayer::new(style, Arc::clone(&queue));
        let lines = Lines(queue);
        Ok((Self { lines, style }, layer))
    }

    /// A handle that takes finished lines.
    pub fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// The form of the lines.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Opens the log file again, after a rotation took the old one away. Returns at once; if it
    /// cannot be opened, the old one is kept and says so.
    pub fn reopen(&self) {
        self.lines.0.reopen();
    }

    /// Waits until everything is written, `patience` at most. `false` if something is not.
    pub fn flush(&self, patience: Duration) -> bool {
        self.lines.0.flush(patience)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.lines.0.flush(LAST_LINES);
    }
}

impl Lines {
    /// Queues one line; a line break at its end may be missing. Never blocks: a line for which
    /// there is no room is dropped and counted.
    pub fn write_line(&self, line: &[u8]) {
        self.0.push(line.strip_suffix(b"\n").unwrap_or(line));
    }
}

/// The level that is logged now. Cheap enough to be asked before every event.
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Error,
        2 => Level::Warn,
        4 => Level::Debug,
        5 => Level::Trace,
        _ => Level::Info,
    }
}

/// Changes what is logged from now on, on all threads.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

/// Instead of std's hook, which writes to stderr and waits for a reader of it.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured)
        .then(|| backtrace.to_string());
    tracing::error!(
        place,
        thread = thread.name(),
        backtrace,
        "panicked: {message}"
    );
}
