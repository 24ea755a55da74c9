//! Write API gateway plugins as native libraries with a stable ABI.
#![deny(missing_docs)]
#![allow(
    non_local_definitions,
    non_camel_case_types,
    reason = "abi_stable's derives raise them"
)]

extern crate self as plugin_api;

#[doc(hidden)]
pub mod abi;
mod call;
mod configuration;
mod context;
mod error;
mod events;
mod method;
mod next;
mod plugin;
mod request;
mod response;
#[doc(hidden)]
pub mod rules;
#[cfg(feature = "testing")]
pub mod testing;
mod value;

pub use call::Call;
pub use configuration::{Configuration, RawConfig};
pub use context::{ConfContext, InitContext, Purpose, State};
pub use error::{Error, Result};
pub use method::Method;
pub use next::{Next, Respond};
pub use plugin::Plugin;
pub use plugin_api_macros::{config, plugin};
pub use request::Request;
pub use response::Response;
pub use value::{Arg, Value};
#[doc(no_inline)]
pub use {log, schemars, serde, serde_json, tracing};

pub use abi::{ABI_MAJOR, ABI_MINOR};
