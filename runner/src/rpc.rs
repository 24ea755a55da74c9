//! The gateway's socket: listener → connection → frame → message, on which thread a call runs, its deadline.

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
pub mod message;
