//! Who keeps the runner alive: the supervisor and its worker, signals, tokens, libraries on disk.
//!
//! The supervisor never opens plugin code. The worker does, as another user, and may die of it.

pub mod accounts;
pub mod control;
mod descriptors;
pub mod fingerprint;
pub mod folder;
mod parent;
mod privileges;
mod reach;
pub mod reload;
mod socket;
pub mod staging;
pub mod state;
pub mod watch;
pub mod workshop;
