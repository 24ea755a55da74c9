//! What the runner offers to a plugin.

#![cfg_attr(
    feature = "next-minor",
    allow(
        unsafe_code,
        reason = "what abi_stable's derive writes for a field behind the last prefix field"
    )
)]

use abi_stable::StableAbi;

use super::values::{Bytes, CallPointer, Found, FoundEntry};

/// The functions of the host. None of them unwinds. Those that take a call may be used only while a phase of it
/// runs, on its thread; the others at any time on any thread.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostRef, prefix_fields = HostFields)))]
#[sabi(missing_field(option))]
pub struct Host {
    /// Takes a log event of the plugin.
    pub log: extern "C" fn(record: &LogRecord),
    /// A fact of the call: see `numbers::number`. 0 when unknown.
    pub number: extern "C" fn(call: CallPointer, what: u32) -> u64,
    /// Changes a fact.
    pub set_number: extern "C" fn(call: CallPointer, what: u32, value: u64) -> u32,
    /// A fact of the call: see `numbers::text`.
    pub text: extern "C" fn(call: CallPointer, what: u32) -> Found,
    /// Changes a fact.
    pub set_text: extern "C" fn(call: CallPointer, what: u32, value: Bytes) -> u32,
    /// Takes a fact away.
    pub clear_text: extern "C" fn(call: CallPointer, what: u32) -> u32,
    /// Value `nth` (from 0) of a name in a map: see `numbers::map`.
    pub get: extern "C" fn(call: CallPointer, map: u32, name: Bytes, nth: usize) -> Found,
    /// Entry `index` (from 0) of a map.
    pub entry: extern "C" fn(call: CallPointer, map: u32, index: usize) -> FoundEntry,
    /// Changes a map: see `numbers::edit`.
    pub edit:
        extern "C" fn(call: CallPointer, map: u32, edit: u32, name: Bytes, value: Bytes) -> u32,
    /// Asks the gateway, or answers from what was declared or asked before: see `numbers::ask`.
    pub ask: extern "C" fn(call: CallPointer, what: u32, name: Bytes) -> Found,
    /// Why the last function of this call said `REFUSED` or `FAILED`.
    #[sabi(last_prefix_field)]
    pub error_text: extern "C" fn(call: CallPointer) -> Found,
    /// A made-up addition of the next minor version, for tests of both directions.
    #[cfg(feature = "next-minor")]
    pub next_minor: extern "C" fn() -> u32,
}

impl std::fmt::Debug for HostRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// One event on its way to the runner's log.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct LogRecord {
    /// Number of the generation, as `init` was told: the host's functions are shared by all plugins.
    pub generation: u64,
    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub level: u32,
    /// Line in `file`; 0 when unknown.
    pub line: u32,
    /// Module path, or what the author named.
    pub target: Bytes,
    /// The text.
    pub message: Bytes,
    /// The other fields, as a JSON object; empty when there are none.
    pub fields: Bytes,
    /// Source file; empty when unknown.
    pub file: Bytes,
}
