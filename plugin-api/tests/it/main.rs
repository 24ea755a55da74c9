//! The promises of the crate, from a plugin's point of view. No code here needs `unsafe`.
#![forbid(unsafe_code)]

mod kit;
mod layout;
mod metadata;
mod phases;
