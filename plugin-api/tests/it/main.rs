//! The promises of the crate, from a plugin's point of view. No code here needs `unsafe`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod kit;
mod layout;
mod metadata;
mod phases;
