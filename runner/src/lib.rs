//! The runner. A call walks down this list; its reply walks back up:
//!
//! - [`supervise`]: who keeps the worker alive: processes, signals, tokens, logs, libraries on disk
//! - [`rpc`]: socket → frames, on which thread a call runs, its deadline
//! - [`request`]: which plugins run, in what order, and what they decided
//! - [`plugins`]: load, check, configure, call and replace plugin code
//!
//! Around them: [`protocol`] (bytes ↔ frame ↔ typed message), [`config`], [`telemetry`], [`cli`], [`exit`], [`dev`], the
//! local gateway, [`new`], the crate of a new plugin, [`check`], what is to say about a library, and [`call`], one
//! call without a gateway. `ARCHITECTURE.md` has the whole picture.

// The system's own ways, in these files: see ARCHITECTURE.md.
#[cfg(not(target_os = "linux"))]
compile_error!(
    "plugin-runner runs on Linux only: it stands on its processes, sockets, memfd, inotify and /proc"
);

pub mod call;
pub mod check;
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
