//! The gateway's socket: listener → connection → frame → message, on which thread a call runs, its deadline.

mod buffers;
mod connection;
mod drain;
mod event_loop;
mod event_loops;
mod exchange;
pub mod flat;
pub mod frame;
#[allow(
    unsafe_code,
    unreachable_pub,
    unused_imports,
    clippy::all,
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "made by `cargo xtask codegen`"
)]
#[rustfmt::skip]
pub mod generated;
mod input;
mod listener;
pub mod message;
mod peer;
mod readiness;
mod run;
mod seldom;
pub mod server;
mod task;
mod threads;
mod watchdog;
