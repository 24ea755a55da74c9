//! EXTRA_INFO: what the runner asks in the middle of a call, and what the gateway answers.

use super::{Malformed, of, root};
use crate::protocol::flat::{Cell, Writer};
use crate::protocol::frame::{self, TooLong, kind};

/// Something that a call does not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// An nginx or APISIX variable, by name without the `$`.
    Var(&'a [u8]),
    /// The client's body.
    RequestBody,
    /// The upstream's body; in a response call, and once only (gateway: the second answer is absent).
    ResponseBody,
}

/// Appends a question to `out`. Several may be sent at once: the gateway answers in order.
///
/// # Errors
/// [`TooLong`] for a variable name of 16 MiB; `out` is then as it was.
pub fn question(out: &mut Vec<u8>, question: &Question<'_>) -> Result<(), TooLong> {
    // Numbers of the schema's `Info` union.
    let (number, name) = match *question {
        Question::Var(name) => (1, Some(name)),
        Question::RequestBody => (2, None),
        Question::ResponseBody => (3, None),
    };
    super::reply::fits(name.unwrap_or_default())?;
    frame::encode(out, kind::EXTRA_INFO, |out| {
        let (mut writer, info_type) = Writer::root(out, [Cell::Value(number), Cell::Offset]);
        match name {
            Some(name) => {
                let field = writer.table(info_type + 4, [Cell::Offset]);
                writer.string(field, name);
            }
            None => {
                writer.table(info_type + 4, []);
            }
        }
    })
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraInfo<'f> {
    /// `None`: no such variable, no body. Empty: there is one, of no bytes.
    pub result: Option<&'f [u8]>,
}

impl<'f> ExtraInfo<'f> {
    /// Checks a whole payload.
    ///
    /// # Errors
    /// [`Malformed`] names the first part of it that cannot be read.
    pub fn parse(payload: &'f [u8]) -> Result<Self, Malformed> {
        let result = root(payload)?.bytes(0).map_err(of("result"))?;
        Ok(Self { result })
    }
}
