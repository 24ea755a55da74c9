//! The runner. A call walks down this list; its reply walks back up:
//!
//! - [`supervise`]: who keeps the worker alive: processes, signals, tokens, logs, libraries on disk
//! - [`rpc`]: socket → frames, on which thread a call runs, its deadline
//! - [`request`]: which plugins run, in what order, and what they decided
//! - [`plugins`]: load, check, configure, call and replace plugin code
//!
//! Around them: [`protocol`] (bytes ↔ frame ↔ typed message), [`config`], [`telemetry`], [`cli`], [`exit`], [`dev`], the
//! local gateway, and [`new`], the crate of a new plugin. `ARCHITECTURE.md` has the whole picture.

pub mod cli;
pub mod config;
pub mod dev;
pub mod exit;
pub mod new;
pub mod plugins;
pub mod protocol;
pub mod request;
pub mod rpc;
pub mod supervise;
pub mod telemetry;
