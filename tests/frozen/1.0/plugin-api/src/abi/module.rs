//! What a plugin offers to the runner.

#![cfg_attr(
    feature = "next-minor",
    allow(
        unsafe_code,
        reason = "what abi_stable's derive writes for a field behind the last prefix field"
    )
)]

use abi_stable::StableAbi;
use abi_stable::library::RootModule;
use abi_stable::package_version_strings;
use abi_stable::sabi_types::VersionStrings;
use abi_stable::std_types::{RString, RVec};

use super::host::HostRef;
use super::values::{Bytes, CallPointer, Handle};

/// The functions of a plugin. None of them unwinds. All but `run`, `level` and `describe` are called off the event
/// loops and may take long.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = ModuleRef, prefix_fields = ModuleFields)))]
#[sabi(missing_field(option))]
pub struct Module {
    /// JSON: name, version, priority, phases, needs, and the schema of the configuration.
    pub describe: extern "C" fn() -> RString,
    /// Makes the instance. `context` is JSON: purpose, settings, generation, level. Called once per generation and worker.
    pub init: extern "C" fn(host: HostRef, context: Bytes) -> Outcome,
    /// Drops the instance, after all that it prepared.
    pub drop_instance: extern "C" fn(instance: Handle),
    /// Makes what the phases get from the bytes of one conf. `context` is JSON: purpose and route key.
    pub configure: extern "C" fn(instance: Handle, conf: Bytes, context: Bytes) -> Outcome,
    /// Drops what `configure` made.
    pub drop_prepared: extern "C" fn(prepared: Handle),
    /// Runs a phase of a call: see `numbers::phase` and `numbers::decision`.
    pub run: extern "C" fn(
        instance: Handle,
        prepared: Handle,
        phase: u32,
        host: HostRef,
        call: CallPointer,
    ) -> u32,
    /// Sets the level below which events are not sent: see [`LogRecord::level`](super::LogRecord).
    pub level: extern "C" fn(level: u32),
    /// Hands out the state of a conf, for its successor in another generation or process.
    pub export_state: extern "C" fn(instance: Handle, prepared: Handle) -> Outcome,
    /// Takes over the state of a predecessor.
    #[sabi(last_prefix_field)]
    pub import_state:
        extern "C" fn(instance: Handle, prepared: Handle, version: u32, state: Bytes) -> Outcome,
    /// A made-up addition of the next minor version, for tests of both directions.
    #[cfg(feature = "next-minor")]
    pub next_minor: extern "C" fn() -> u32,
}

impl RootModule for ModuleRef {
    abi_stable::declare_root_module_statics! {ModuleRef}
    const BASE_NAME: &'static str = "plugin";
    const NAME: &'static str = "plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

impl std::fmt::Debug for ModuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Module")
    }
}

/// What an entry point that makes something came to.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct Outcome {
    /// `numbers::OK` or `numbers::REFUSED`.
    pub code: u32,
    /// Version of the state that `export_state` hands out.
    pub version: u32,
    /// The value made, owned by the receiver until it is given to the drop function.
    pub made: Handle,
    /// The state that `export_state` hands out; empty when there is none.
    pub state: RVec<u8>,
    /// Why nothing was made.
    pub error: RString,
}

impl Outcome {
    /// Made `made`.
    pub fn made(made: Handle) -> Self {
        Self {
            code: super::numbers::OK,
            version: 0,
            made,
            state: RVec::new(),
            error: RString::new(),
        }
    }

    /// Made nothing, for this reason.
    pub fn refused(error: String) -> Self {
        Self {
            code: super::numbers::REFUSED,
            error: error.into(),
            ..Self::made(Handle::NONE)
        }
    }
}
