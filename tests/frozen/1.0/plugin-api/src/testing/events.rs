//! What plugins log while a test runs them.

#![expect(
    unsafe_code,
    reason = "reads the bytes of a log record, which live until the function returns"
)]

use std::cell::RefCell;
use std::sync::Once;

use serde_json::Value;
use tracing::Level;

use crate::abi::{Bytes, LogRecord};

/// An event that the plugin has logged, with `tracing` or `log`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// How grave it is. All levels are collected.
    pub level: Level,
    /// Module path, or what the author named.
    pub target: String,
    /// The text.
    pub message: String,
    /// The other fields as a JSON object; null when there are none.
    pub fields: Value,
}

thread_local! {
    static EVENTS: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` and collects what this thread logs meanwhile. Other threads' events are not seen.
pub(super) fn collect<T>(work: impl FnOnce() -> T) -> (T, Vec<Event>) {
    EVENTS.with_borrow_mut(Vec::clear);
    let done = work();
    (done, EVENTS.take())
}

/// Connects this process's events, once. The panic hook stays the test harness's: it prints what failed.
pub(super) fn connect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        crate::events::install(super::host::host(), 0, TRACE);
        std::panic::set_hook(hook);
    });
}

/// The number of the lowest level.
pub(super) const TRACE: u32 = 5;

/// `Host::log`.
pub(super) extern "C" fn take(record: &LogRecord) {
    let level = match record.level {
        0 | 1 => Level::ERROR,
        2 => Level::WARN,
        3 => Level::INFO,
        4 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let event = Event {
        level,
        target: text(record.target),
        message: text(record.message),
        fields: serde_json::from_str(&text(record.fields)).unwrap_or_default(),
    };
    // A thread that is ending collects nothing any more.
    let _ = EVENTS.try_with(|events| events.borrow_mut().push(event));
}

fn text(bytes: Bytes) -> String {
    // SAFETY: the sender's bytes live until the host function returns.
    String::from_utf8_lossy(unsafe { bytes.as_slice() }).into_owned()
}
