//! Frame ↔ typed message: what the gateway sends, checked once and read in place; what the runner answers, written
//! straight into the output buffer.
//!
//! A `parse` looks at every offset and length of its message, so that all reads after it succeed. Text is bytes: no
//! UTF-8, no NUL terminator is asked for. Nothing here decides anything; see `request`.
//! Source: `schema/ext-plugin.fbs`, and what Apache APISIX 3.18.0 sends (`tests/fixtures/captures`). The generated
//! code is the oracle in the tests.

mod call;
mod entries;
mod place;
mod prepare;
pub mod question;
pub mod reply;
#[cfg(test)]
mod tests;

pub use call::{RequestCall, ResponseCall};
pub use entries::{Entries, Entry, Iter};
pub use place::{Alike, Place};
pub use prepare::PrepareConf;
pub use question::{ExtraInfo, Question, question};
pub use reply::{Rewrite, error, prepared, response, rewrite, rewrite_headers, stop, unchanged};

use super::flat::{Flaw, Table};

/// A payload that cannot be read. Nothing of it may be used: answer BAD_REQUEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A frame of length 0.
    #[error("the frame has no payload")]
    Empty,
    /// The message's own table.
    #[error("the message {0}")]
    Root(Flaw),
    /// One field of it.
    #[error("`{field}` {flaw}")]
    Field {
        /// Name in the schema.
        field: &'static str,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// One element of a list.
    #[error("entry {index} of `{field}` {flaw}")]
    Entry {
        /// Name of the list in the schema.
        field: &'static str,
        /// Counted from 0.
        index: usize,
        /// What is wrong with the entry, its name or its value.
        flaw: Flaw,
    },
}

/// The table of a payload.
#[inline(always)]
fn root(payload: &[u8]) -> Result<Table<'_>, Malformed> {
    if payload.is_empty() {
        return Err(Malformed::Empty);
    }
    Table::root(payload).map_err(Malformed::Root)
}

/// Names the field in which a flaw was found.
#[inline]
fn of(field: &'static str) -> impl FnOnce(Flaw) -> Malformed {
    move |flaw| Malformed::Field { field, flaw }
}
