//! The contract between the runner and a plugin. Authors never need it; the runner and the macros do.
//!
//! Frozen since 1.0; `tests/abi-1.txt` has all of it. Rules of change: a published layout is only ever appended to. New entry points go behind the last
//! prefix field of [`Module`] or [`Host`]; new facts get a new number in [`numbers`]; numbers are never used again.

pub mod caller;
pub mod host;
pub mod metadata;
pub mod module;
pub mod numbers;
pub mod shim;
pub mod values;

pub use abi_stable::library::LibHeader;
pub use host::{Host, HostRef, LogRecord};
pub use metadata::Metadata;
pub use module::{Module, ModuleRef, Outcome};
pub use values::{Bytes, CallPointer, Found, FoundEntry, Handle};

/// A library of another major version is refused.
pub const ABI_MAJOR: u16 = 1;
/// A library of any minor version of the same major loads.
#[cfg(not(feature = "next-minor"))]
pub const ABI_MINOR: u16 = 0;
/// A made-up next minor version, which tests put on either side of the border.
#[cfg(feature = "next-minor")]
pub const ABI_MINOR: u16 = 1;
