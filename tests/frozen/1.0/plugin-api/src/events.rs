//! Sends the plugin's own `tracing` and `log` events and its panics to the runner's log.
//!
//! A library has its own copy of these crates with their own global state; the runner's subscriber never sees them.

use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;

use crate::abi::values::Bytes;
use crate::abi::{HostRef, LogRecord};

static HOST: OnceLock<(HostRef, u64)> = OnceLock::new();
static LEVEL: AtomicU32 = AtomicU32::new(INFO);

const ERROR: u32 = 1;
const INFO: u32 = 3;
const TRACE: u32 = 5;

/// Takes over this copy's global subscriber, logger and panic hook. Later calls change the level only.
pub(crate) fn install(host: HostRef, generation: u64, level: u32) {
    if HOST.set((host, generation)).is_ok() {
        // An author who installed something of their own before keeps it.
        let _ = tracing::subscriber::set_global_default(Forward);
        let _ = log::set_logger(&Forward);
        std::panic::set_hook(Box::new(report_panic));
    }
    set_level(level);
}

/// Events above `level` are not sent from now on. Any thread.
pub(crate) fn set_level(level: u32) {
    LEVEL.store(level.clamp(0, TRACE), Ordering::Relaxed);
    log::set_max_level(match level {
        0 => log::LevelFilter::Off,
        1 => log::LevelFilter::Error,
        2 => log::LevelFilter::Warn,
        3 => log::LevelFilter::Info,
        4 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    });
    tracing::callsite::rebuild_interest_cache();
}

/// Entry point `level`.
pub(crate) extern "C" fn set_level_at_border(level: u32) {
    let _ = catch_unwind(|| set_level(level));
}

struct Event<'a> {
    level: u32,
    target: &'a str,
    message: &'a str,
    fields: &'a str,
    file: &'a str,
    line: u32,
}

fn send(event: &Event<'_>) {
    if let Some((host, generation)) = HOST.get() {
        host.log()(&LogRecord {
            generation: *generation,
            level: event.level,
            line: event.line,
            target: Bytes::new(event.target.as_bytes()),
            message: Bytes::new(event.message.as_bytes()),
            fields: Bytes::new(event.fields.as_bytes()),
            file: Bytes::new(event.file.as_bytes()),
        });
    }
}

struct Forward;

impl tracing::Subscriber for Forward {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && number(metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let metadata = event.metadata();
        let mut seen = Seen::default();
        event.record(&mut seen);
        let fields = seen.json();
        send(&Event {
            level: number(metadata.level()),
            target: metadata.target(),
            message: &seen.message,
            fields: &fields,
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn number(level: &tracing::Level) -> u32 {
    match *level {
        tracing::Level::ERROR => ERROR,
        tracing::Level::WARN => 2,
        tracing::Level::INFO => INFO,
        tracing::Level::DEBUG => 4,
        tracing::Level::TRACE => TRACE,
    }
}

impl log::Log for Forward {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() as u32 <= LEVEL.load(Ordering::Relaxed)
    }

    fn log(&self, record: &log::Record<'_>) {
        if log::Log::enabled(self, record.metadata()) {
            send(&Event {
                level: record.level() as u32,
                target: record.target(),
                message: &record.args().to_string(),
                fields: "",
                file: record.file().unwrap_or_default(),
                line: record.line().unwrap_or_default(),
            });
        }
    }

    fn flush(&self) {}
}

/// Collects the fields of an event.
#[derive(Default)]
struct Seen {
    message: String,
    fields: Map<String, Value>,
}

impl Seen {
    fn json(&self) -> String {
        if self.fields.is_empty() {
            return String::new();
        }
        serde_json::to_string(&self.fields).unwrap_or_default()
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing into a string cannot fail; a `Debug` that does leaves what it has written.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.put(field, value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// The runner's own hook never sees a panic of this copy.
fn report_panic(info: &PanicHookInfo<'_>) {
    let text = panic_text(info.payload());
    let backtrace = std::backtrace::Backtrace::capture();
    let message = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("panicked: {text}\n{backtrace}"),
        _ => format!("panicked: {text}"),
    };
    let _ = catch_unwind(AssertUnwindSafe(|| {
        send(&Event {
            level: ERROR,
            target: "panic",
            message: &message,
            fields: "",
            file: info.location().map_or("", |place| place.file()),
            line: info.location().map_or(0, |place| place.line()),
        });
    }));
}

/// What the panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}
