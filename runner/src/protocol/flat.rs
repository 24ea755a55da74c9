//! FlatBuffers, as far as this protocol needs them: tables, strings, byte vectors, vectors of tables.
//!
//! Our own, because the crate's verifier rejects text that is not UTF-8 and empty text without a NUL (the gateway
//! sends both: captures `non-utf8` and `args-without-value`), and costs more than the rest of a call. Safe code only:
//! any bytes give a value or a [`Flaw`], never a panic. Nothing here knows a message; see `protocol/message.rs`.
//! Source: the FlatBuffers binary format ("FlatBuffer Internals"); the generated code is the oracle in the tests.

mod reader;
mod writer;

pub use reader::{Layout, Shape};
pub(crate) use reader::{Table, bytes_at, follow, near, word};
pub(crate) use writer::{Cell, Writer};

// Positions are sums of a few 32-bit offsets: in 64 bits they cannot overflow.
const _: () = assert!(usize::BITS >= 64);

/// What is wrong with a part of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An offset or a field lies outside of the buffer.
    #[error("points outside of the frame")]
    Outside,
    /// The table that says where a table's fields are is cut or outside of the buffer.
    #[error("has a field index (vtable) that does not lie inside of the frame")]
    Vtable,
    /// A string or vector claims more bytes than there are.
    #[error("is longer than the rest of the frame")]
    Length,
}
