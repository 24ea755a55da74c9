//! The gateway's protocol: bytes ↔ frame ↔ typed message. Decides nothing, opens nothing; everybody may use it.

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
pub mod payload;
