//! Write API gateway plugins as native libraries with a stable ABI.
//!
//! A plugin is a shared library. Put its `.so` file into the runner's plugins folder and it serves; replace the file
//! and the next request runs the new code. This is a whole one:
//!
//! ```standalone_crate
//! use plugin_api::{Next, Plugin, Request, Result, config, plugin};
//!
//! /// `{"key": "secret"}`
//! #[config]
//! struct Config {
//!     /// What the header `X-Key` has to be.
//!     key: String,
//! }
//!
//! #[derive(Default)]
//! struct RequireKey;
//!
//! #[plugin]
//! impl Plugin for RequireKey {
//!     type Config = Config;
//!
//!     fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
//!         match request.header("X-Key") {
//!             Some(key) if key == config.key.as_str() => Ok(Next::CONTINUE),
//!             _ => Next::respond(401).text("a key is needed\n").into(),
//!         }
//!     }
//! }
//! ```
//!
//! Its `Cargo.toml` says `crate-type = ["cdylib"]` under `[lib]`, and has `gateway-plugin-api` as its only dependency.
//! Configurations call the plugin by the name of its package; `#[plugin(name = "…")]` gives it another.
//!
//! The [`guide`] goes on from here, chapter by chapter: phases, configuration, state, calling out, testing, shipping,
//! debugging, and moving a plugin from another runner.
//!
//! # The life of a plugin
//!
//! | When | What runs | How often |
//! |---|---|---|
//! | the library is loaded | [`Plugin::init_worker`] | once per build of the library and process |
//! | a route's configuration arrives | [`Plugin::validate`], [`Plugin::configure`] | once per *conf*: one plugin's configuration on one route |
//! | a request arrives | all plugins' [`rewrite`](Plugin::rewrite), then all plugins' [`access`](Plugin::access) | each request |
//! | the upstream has answered | all plugins' [`header_filter`](Plugin::header_filter), then all plugins' [`body_filter`](Plugin::body_filter) | each response of a route that is configured for it |
//! | the reply has been written | all plugins' [`log`](Plugin::log), off the client's path | each call, also one that failed |
//! | a new build takes over | the old one's [`export_state`](Plugin::export_state), the new one's [`import_state`](Plugin::import_state) | once per conf |
//! | … and the old one is done | the values' `Drop`, when the last call that uses them is over | once |
//!
//! What `init_worker` makes is for all routes (a connection pool, a key file); what `configure` makes is for one
//! route (compiled regexes, limiters) and given to each phase. A plugin that leaves `configure` out gets its `Config`.
//! A phase that is not implemented costs nothing.
//!
//! On one request the plugins run in the order of the route's configuration; those that the runner's `bindings.yaml` adds
//! come in the order of their priority, highest first, then by name. Two requests, or a request and its
//! response, may run on different threads at the same time; one call stays on one thread.
//!
//! # Reading and changing
//!
//! [`Request`] and [`Response`] have what the gateway sent, as changed by the plugins before. Values are bytes
//! ([`Value`]), because a client may send any; `as_str()` tells text from other bytes. They borrow from the call and
//! not from the request:
//!
//! ```
//! # use plugin_api::{Request, Result};
//! # fn phase(request: &mut Request<'_>) -> Result<()> {
//! if let Some(agent) = request.header("user-agent") {
//!     request.set_header("x-client", agent)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a gateway would mistreat (an empty header, a path without `/`, a status of 1xx) is an error at the call that
//! sets it, with the reason.
//!
//! [`Next`] is what a phase decides: [`Next::CONTINUE`], or [`Next::respond`], which ends the chain. Values for later
//! phases and plugins go into [`Call::set_private`] and [`Call::set_shared`].
//!
//! # What has to be asked for
//!
//! Variables of the gateway and bodies are not part of a call. Each costs a round trip when a phase first reads it.
//! What a phase always reads it should declare; then all of a call's are asked in one go, before the first phase:
//!
//! ```standalone_crate
//! # use plugin_api::{Next, Plugin, RawConfig, Request, Result, plugin};
//! # #[derive(Default)]
//! # struct Mine;
//! # #[plugin]
//! # impl Plugin for Mine {
//! #     type Config = RawConfig;
//! #[needs(variables("remote_port", "request_id"), request_body)]
//! fn access(&self, _: &RawConfig, request: &mut Request<'_>) -> Result<Next> {
//!     let (port, body) = (request.variable("remote_port")?, request.body()?);
//!     // …
//! #   let _ = (port, body);
//!     Ok(Next::CONTINUE)
//! }
//! # }
//! ```
//!
//! What it reads for some requests only is better left undeclared.
//!
//! # Errors and panics
//!
//! An `Err` or a panic from a phase answers the call with an error: the client sees 503, the text goes to the runner's
//! log under the plugin's name, and nothing passes that should not. (An operator may open a plugin with
//! `on_failure: skip`.) Any `std::error::Error` becomes an [`Error`] with `?`; [`Error::context`] says what was being
//! done; [`bail!`] returns one with a text. For an answer that is meant for the client, use [`Next::respond`].
//!
//! An `Err` from `configure` keeps the conf from serving; one from `init_worker` keeps the build out, and the build
//! before it goes on serving. Panics are caught, so leave `panic = "unwind"`, the default: a library with
//! `panic = "abort"` is refused.
//!
//! # Blocking
//!
//! Phases are plain functions and may block, until [`Call::deadline`]; then the client is answered in the plugin's
//! place, and what the plugin still does goes nowhere. A plugin that waits for the network or for files says
//! `#[plugin(blocking)]` and never runs on an event loop. Others are timed, and run there once they have shown to be
//! quick.
//!
//! # Logging
//!
//! Events of [`tracing`] and [`log`] appear in the runner's log under the plugin's name, with its generation and phase, the
//! call's id and the route key; so do panics. Outside of a call (`init_worker`, `configure`, `drop`, a thread of the
//! plugin's own) they have what there is of these. Spans of the plugin's own are not carried. The operator may change the level while the plugin runs. Leave standard output and error alone: a line written
//! there has no level and no plugin's name.
//!
//! # Testing
//!
//! With the cargo feature `testing`, `plugin_api::testing` runs phases in a plugin's own tests, without a runner:
//!
//! ```
//! # #[cfg(feature = "testing")] mod plugin {
//! # use plugin_api::{testing, Result, Plugin};
//! # fn test<RequireKey: Plugin>() -> Result<()> {
//! let plugin = testing::conf::<RequireKey>(r#"{"key": "secret"}"#)?;
//! let outcome = plugin.access(testing::Request::get("/").header("X-Key", "wrong"));
//! assert_eq!(outcome.answer().unwrap().status(), 401);
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # Versions
//!
//! A library runs in any runner of the same [`ABI_MAJOR`], older or newer, built with any compiler from the crate's
//! `rust-version` on. A call that an older runner does not know is an error that says so; a plugin that cannot do
//! without states `#[plugin(min_runner = "…")]`. The crate's version follows semver for its API; the ABI has its own
//! number, is frozen since 1.0 and only grows. The README has the rules.
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
mod end;
mod error;
mod events;
#[cfg(any(doc, doctest))]
pub mod guide;
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
pub use end::{Action, End, Ended, Hook, Seen};
pub use error::{Error, Result};
pub use method::Method;
pub use next::{Next, Respond};
pub use plugin::Plugin;
/// # Example
///
/// What is left out, what is misspelt, and what a field's attributes do:
///
/// ```
/// use plugin_api::{Configuration, config};
///
/// #[config]
/// struct Config {
///     /// Without a default: the conf has to say it.
///     upstream: String,
///     /// `Option` is enough for "may be left out".
///     status: Option<u16>,
///     /// With a default the key may be left out, too. `schemars` changes what people read, and checks nothing.
///     #[serde(default)]
///     #[schemars(range(max = 10))]
///     tries: u8,
/// }
///
/// let config = Config::read(br#"{"upstream": "a", "tries": 11}"#).unwrap();
/// assert_eq!((config.upstream.as_str(), config.status, config.tries), ("a", None, 11));
/// let fault = Config::read(br#"{"upstream": "a", "tires": 1}"#).unwrap_err().to_string();
/// assert!(fault.ends_with("did you mean `tries`?"), "{fault}");
/// ```
pub use plugin_api_macros::config;
/// # Example
///
/// A plugin with all that may be said about it; each part may be left out:
///
/// ```standalone_crate
/// use plugin_api::{ConfContext, InitContext, Next, Plugin, RawConfig, Request, Result, plugin};
///
/// struct Whole;
///
/// #[plugin(name = "whole", version = "2.1.0", priority = 900, blocking, min_runner = "0.1.0")]
/// impl Plugin for Whole {
///     type Config = RawConfig;
///     type Prepared = usize; // with it, `configure` has to be written
///
///     fn init_worker(_: &InitContext) -> Result<Self> {
///         Ok(Self)
///     }
///
///     fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<usize> {
///         Ok(config.0.len())
///     }
///
///     #[needs(variables("remote_port"))]
///     fn access(&self, _: &usize, _: &mut Request<'_>) -> Result<Next> {
///         Ok(Next::CONTINUE)
///     }
/// }
/// ```
pub use plugin_api_macros::plugin;
pub use request::Request;
pub use response::Response;
pub use value::{Arg, Value};
#[doc(no_inline)]
pub use {log, schemars, serde, serde_json, tracing};

pub use abi::{ABI_MAJOR, ABI_MINOR};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
