//! Generations for tests, made of functions of the test itself instead of a library.

use std::sync::Arc;

use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::RString;
use plugin_api::abi::numbers::decision;
use plugin_api::abi::{Bytes, CallPointer, Handle, HostRef, Module, Outcome};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::plugins::generation::{CONFIGURED_AT_ONCE, Generation, bits};
use crate::plugins::instance::{Init, Instance, Purpose};
use crate::plugins::metadata::About;
use crate::plugins::pace::Pace;
use crate::plugins::tally::Tally;
use crate::request::host;

/// What a test plugin does.
pub(crate) struct Functions {
    pub(crate) configure: extern "C" fn(Handle, Bytes, Bytes) -> Outcome,
    pub(crate) run: extern "C" fn(Handle, Handle, u32, HostRef, CallPointer) -> u32,
    pub(crate) export_state: extern "C" fn(Handle, Handle) -> Outcome,
    pub(crate) import_state: extern "C" fn(Handle, Handle, u32, Bytes) -> Outcome,
}

impl Default for Functions {
    fn default() -> Self {
        Self {
            configure: accept,
            run: go_on,
            export_state,
            import_state,
        }
    }
}

/// A generation of `plugin`, from `/plugins/FILE`, with an `access` phase.
pub(crate) fn generation(
    number: u64,
    plugin: &str,
    file: &str,
    functions: Functions,
) -> Arc<Generation> {
    let module = Module {
        describe,
        init,
        drop_instance: forget,
        configure: functions.configure,
        drop_prepared: forget,
        run: functions.run,
        level,
        export_state: functions.export_state,
        import_state: functions.import_state,
        #[cfg(feature = "next-minor")]
        next_minor,
    };
    let init = Init {
        purpose: Purpose::Serve,
        generation: number,
        level: 0,
        settings: &Value::Null,
    };
    let instance = Instance::init(module.leak_into_prefix(), host::host(), &init).unwrap();
    Arc::new(Generation {
        number,
        file: format!("/plugins/{file}").into(),
        about: About {
            name: plugin.to_owned(),
            state: true,
            ..About::default()
        },
        schema: None,
        phases: bits(&["access".to_owned()]),
        pace: Pace::new(false, 1),
        configuring: Arc::new(Semaphore::new(CONFIGURED_AT_ONCE)),
        tally: Tally::default(),
        forbidden: Default::default(),
        instance,
    })
}

/// `configure` that accepts any conf.
pub(crate) extern "C" fn accept(_: Handle, _: Bytes, _: Bytes) -> Outcome {
    Outcome::made(Handle::NONE)
}

/// `configure` that refuses every conf.
pub(crate) extern "C" fn refuse(_: Handle, _: Bytes, _: Bytes) -> Outcome {
    Outcome::refused("not like this".to_owned())
}

extern "C" fn go_on(_: Handle, _: Handle, _: u32, _: HostRef, _: CallPointer) -> u32 {
    decision::CONTINUE
}

extern "C" fn describe() -> RString {
    RString::new()
}

extern "C" fn init(_: HostRef, _: Bytes) -> Outcome {
    Outcome::made(Handle::NONE)
}

extern "C" fn forget(_: Handle) {}

extern "C" fn level(_: u32) {}

extern "C" fn export_state(_: Handle, _: Handle) -> Outcome {
    Outcome::made(Handle::NONE)
}

extern "C" fn import_state(_: Handle, _: Handle, _: u32, _: Bytes) -> Outcome {
    Outcome::made(Handle::NONE)
}

#[cfg(feature = "next-minor")]
extern "C" fn next_minor() -> u32 {
    1
}
