//! Who keeps the runner alive: the supervisor and its worker, signals, tokens, libraries on disk.
//!
//! The supervisor never opens plugin code. The worker does, as another user, and may die of it.
//!
//! Supervisor: `start → supervisor → socket, tokens, watch → folder, reload, staging, spawn`.
//! Worker: `worker → privileges, orders → workshop` (which `request` and `plugins` implement).

pub mod accounts;
pub mod admin;
mod backoff;
mod budget;
pub mod control;
mod descriptors;
pub mod fingerprint;
mod fit;
pub mod folder;
mod heap;
mod last_good;
mod leave;
mod output;
mod parent;
mod privileges;
pub mod probe;
mod prober;
mod quarantine;
mod reach;
pub mod rehearsal;
pub mod reload;
pub mod shelf;
mod signals;
mod socket;
mod spawn;
pub mod staging;
mod start;
pub mod state;
mod successor;
mod supervisor;
pub mod tokens;
pub mod trial;
mod verdicts;
pub mod watch;
pub mod worker;
pub mod workshop;

pub use start::start;
