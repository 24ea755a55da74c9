//! What a plugin says arrives at the host: `tracing` and `log` events and panics, down to a level that changes while
//! it runs.
//!
//! One test in a process of its own: a plugin's copy of the crate takes over the process's subscriber, logger and
//! panic hook.

#![expect(unsafe_code, reason = "a host reads the bytes that a plugin lends it")]

use std::sync::Mutex;

use abi_stable::prefix_type::PrefixTypeTrait;
use plugin_api::abi::numbers::{self, decision, phase};
use plugin_api::abi::{Bytes, CallPointer, Found, FoundEntry, Host, LogRecord, ModuleRef, shim};
use plugin_api::{Next, Plugin, RawConfig, Request, Result, log, plugin, tracing};

#[derive(Default)]
struct Talker;

#[plugin]
impl Plugin for Talker {
    type Config = RawConfig;

    fn access(&self, conf: &RawConfig, _: &mut Request<'_>) -> Result<Next> {
        tracing::info!(answer = 42, name = "x", ok = true, "text {}", 1);
        tracing::debug!("detail");
        log::warn!("from {}", "log");
        assert!(conf.0.is_empty(), "the conf is not empty");
        Ok(Next::CONTINUE)
    }
}

#[derive(Debug, PartialEq)]
struct Seen {
    generation: u64,
    level: u32,
    target: String,
    message: String,
    fields: String,
    place: bool,
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

#[expect(
    clippy::print_stderr,
    reason = "a failed assertion of the test ends here, too: it has to be seen"
)]
extern "C" fn take(record: &LogRecord) {
    let seen = Seen {
        generation: record.generation,
        level: record.level,
        target: text(record.target),
        message: text(record.message),
        fields: text(record.fields),
        place: text(record.file).ends_with("events.rs") && record.line > 0,
    };
    eprintln!("{seen:?}");
    SEEN.lock().expect("no thread panicked with it").push(seen);
}

fn text(bytes: Bytes) -> String {
    // SAFETY: the plugin's bytes live until `take` returns.
    String::from_utf8(unsafe { bytes.as_slice() }.to_vec()).expect("the plugin says UTF-8")
}

/// A host that knows nothing of the call: the plugin's phase reads nothing.
fn host() -> plugin_api::abi::HostRef {
    extern "C" fn number(_: CallPointer, _: u32) -> u64 {
        0
    }
    extern "C" fn set_number(_: CallPointer, _: u32, _: u64) -> u32 {
        numbers::OK
    }
    extern "C" fn text(_: CallPointer, _: u32) -> Found {
        Found::nothing(numbers::ABSENT)
    }
    extern "C" fn set_text(_: CallPointer, _: u32, _: Bytes) -> u32 {
        numbers::OK
    }
    extern "C" fn clear_text(_: CallPointer, _: u32) -> u32 {
        numbers::OK
    }
    extern "C" fn get(_: CallPointer, _: u32, _: Bytes, _: usize) -> Found {
        Found::nothing(numbers::ABSENT)
    }
    extern "C" fn entry(_: CallPointer, _: u32, _: usize) -> FoundEntry {
        let nothing = Found::nothing(numbers::ABSENT);
        FoundEntry {
            name: nothing,
            value: nothing,
        }
    }
    extern "C" fn edit(_: CallPointer, _: u32, _: u32, _: Bytes, _: Bytes) -> u32 {
        numbers::OK
    }
    extern "C" fn ask(_: CallPointer, _: u32, _: Bytes) -> Found {
        Found::nothing(numbers::ABSENT)
    }
    extern "C" fn error_text(_: CallPointer) -> Found {
        Found::nothing(numbers::ABSENT)
    }
    #[cfg(feature = "next-minor")]
    extern "C" fn next_minor() -> u32 {
        1
    }
    let host = Host {
        log: take,
        number,
        set_number,
        text,
        set_text,
        clear_text,
        get,
        entry,
        edit,
        ask,
        error_text,
        #[cfg(feature = "next-minor")]
        next_minor,
    };
    host.leak_into_prefix()
}

/// Runs the phase once and returns its decision and what it said.
fn say(module: ModuleRef, instance: plugin_api::abi::Handle, conf: &[u8]) -> (u32, Vec<Seen>) {
    let prepared = module.configure()(instance, Bytes::new(conf), Bytes::new(b"{}")).made;
    let call = CallPointer {
        pointer: std::ptr::null_mut(),
    };
    let decision = module.run()(instance, prepared, phase::ACCESS, host(), call);
    module.drop_prepared()(prepared);
    (
        decision,
        std::mem::take(&mut *SEEN.lock().expect("no thread panicked with it")),
    )
}

fn seen(level: u32, target: &str, message: &str, fields: &str) -> Seen {
    Seen {
        generation: 7,
        level,
        target: target.to_owned(),
        message: message.to_owned(),
        fields: fields.to_owned(),
        place: true,
    }
}

#[test]
fn events_and_panics_arrive_down_to_the_level_of_the_moment() {
    let module = shim::module::<Talker>();
    let context = br#"{"generation": 7, "level": 3}"#;
    let instance = module.init()(host(), Bytes::new(context)).made;
    let info = || {
        let fields = r#"{"answer":42,"name":"x","ok":true}"#;
        seen(3, "events", "text 1", fields)
    };
    let warning = || seen(2, "events", "from log", "");

    let (decision, said) = say(module, instance, b"");
    assert_eq!(decision, decision::CONTINUE);
    assert_eq!(said, [info(), warning()]);

    module.level()(5);
    let (_, said) = say(module, instance, b"");
    assert_eq!(said, [info(), seen(4, "events", "detail", ""), warning()]);

    module.level()(1);
    let (decision, mut said) = say(module, instance, b"{}");
    assert_eq!(decision, decision::PANIC);
    // With RUST_BACKTRACE a backtrace follows.
    said[0]
        .message
        .truncate("panicked: the conf is not empty".len());
    assert_eq!(
        said,
        [seen(1, "panic", "panicked: the conf is not empty", "")]
    );

    module.level()(0);
    let (_, said) = say(module, instance, b"");
    assert_eq!(said, []);
    module.drop_instance()(instance);
}
