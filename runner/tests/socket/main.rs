//! The socket side with a small service behind it: real Unix sockets, real threads, no plugins.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod connections;
mod drain;
mod frames;
mod hand_over;
mod harness;
mod questions;
mod service;
mod stuck;
mod threads;
