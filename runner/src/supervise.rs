//! Who keeps the runner alive: the supervisor and its worker, signals, tokens, libraries on disk.
//!
//! The supervisor never opens plugin code. The worker does, as another user, and may die of it.

pub mod accounts;
pub mod control;
mod descriptors;
mod parent;
mod privileges;
pub mod workshop;
