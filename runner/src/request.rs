//! What happens to one request: which plugins run, in what order, and what they decided.
//!
//! `conf → chain → assemble` make what a token stands for; `calls → run → host, edit → reply` are the path of a call.

pub mod answers;
pub mod assemble;
pub mod assign;
pub mod binder;
pub mod bindings;
pub mod bodies;
pub mod bound;
pub mod call;
pub mod call_binding;
pub mod call_line;
pub mod calls;
pub mod chain;
pub mod chains;
pub mod conf;
pub mod edit;
pub mod end;
pub mod heritage;
pub mod hook;
pub mod host;
pub mod index;
pub mod kept;
pub mod log_phase;
pub mod log_queue;
pub mod moment;
pub mod names;
pub mod observer;
pub mod older;
pub mod overlay;
pub mod permits;
pub mod plugin_log;
pub mod prepared;
pub mod reply;
pub mod run;
pub mod saved;
pub mod service;
pub mod state;
pub mod step;
pub mod watched;

use std::sync::LazyLock;

use crate::telemetry::Repeated;

/// Keeps a failure that every call of a route meets from flooding the log.
fn failures() -> &'static Repeated {
    static FAILURES: LazyLock<Repeated> = LazyLock::new(Repeated::new);
    &FAILURES
}
