//! What the runner answers. Every function appends exactly one whole frame, or nothing.
//!
//! An empty list is left out. What an answer means to the gateway (which headers it drops, what an empty body does)
//! is decided in `request`; here is only how it is written.

use super::Entry;
use crate::protocol::flat::{Cell, Writer};
use crate::protocol::frame::{self, MAX_PAYLOAD, TooLong, kind};
use crate::request::service::ErrorCode;

/// Appends an ERROR frame.
pub fn error(out: &mut Vec<u8>, code: ErrorCode) {
    // Numbers of the schema's `Code`.
    let code = match code {
        ErrorCode::BadRequest => 0,
        ErrorCode::ServiceUnavailable => 1,
        ErrorCode::ConfTokenNotFound => 2,
    };
    numbers(out, kind::ERROR, [code]);
}

/// Appends the answer to PREPARE_CONF.
pub fn prepared(out: &mut Vec<u8>, token: u32) {
    numbers(out, kind::PREPARE_CONF, [token]);
}

/// Appends the answer to a request call that changes nothing.
pub fn unchanged(out: &mut Vec<u8>, id: u32) {
    numbers(out, kind::HTTP_REQ_CALL, [id]);
}

/// Appends the answer to a request call that the gateway sends to the client instead of asking the upstream. An empty
/// body is left out.
///
/// # Errors
/// [`TooLong`] when headers and body do not fit into a frame; `out` is then as it was.
#[inline]
pub fn stop<'a>(
    out: &mut Vec<u8>,
    id: u32,
    status: u16,
    headers: impl IntoIterator<Item = Entry<'a>, IntoIter: Clone>,
    body: &[u8],
) -> Result<(), TooLong> {
    fits(body)?;
    let headers = List::new(headers);
    frame::encode(out, kind::HTTP_REQ_CALL, |out| {
        let (mut writer, action) = action(out, id, 1);
        let cells = [
            Cell::Value(status.into()),
            headers.cell(),
            Cell::offset_if(!body.is_empty()),
        ];
        let field = writer.table(action, cells);
        headers.write(&mut writer, field + 4);
        if !body.is_empty() {
            writer.bytes(field + 8, body);
        }
    })
}

/// What a request call changes. `None` and empty lists stay out of the frame.
#[derive(Debug, Clone, Copy)]
pub struct Rewrite<'a, H, A, R> {
    /// Decoded, without a query.
    pub path: Option<&'a [u8]>,
    /// Set, or deleted where there is no value.
    pub headers: H,
    /// Set, or deleted where there is no value.
    pub args: A,
    /// Added to the response the client gets.
    pub resp_headers: R,
    /// Replaces the body.
    pub body: Option<&'a [u8]>,
}

/// Appends the answer to a request call that changes the request.
///
/// # Errors
/// [`TooLong`] when all of it does not fit into a frame; `out` is then as it was.
#[inline]
pub fn rewrite<'a, H, A, R>(
    out: &mut Vec<u8>,
    id: u32,
    rewrite: &Rewrite<'a, H, A, R>,
) -> Result<(), TooLong>
where
    H: IntoIterator<Item = Entry<'a>, IntoIter: Clone> + Clone,
    A: IntoIterator<Item = Entry<'a>, IntoIter: Clone> + Clone,
    R: IntoIterator<Item = Entry<'a>, IntoIter: Clone> + Clone,
{
    let &Rewrite { path, body, .. } = rewrite;
    fits(body.unwrap_or_default())?;
    let headers = List::new(rewrite.headers.clone());
    let args = List::new(rewrite.args.clone());
    let resp_headers = List::new(rewrite.resp_headers.clone());
    frame::encode(out, kind::HTTP_REQ_CALL, |out| {
        let (mut writer, action) = action(out, id, 2);
        let cells = [
            Cell::offset_if(path.is_some()),
            headers.cell(),
            args.cell(),
            resp_headers.cell(),
            Cell::offset_if(body.is_some()),
        ];
        let field = writer.table(action, cells);
        if let Some(path) = path {
            writer.string(field, path);
        }
        headers.write(&mut writer, field + 4);
        args.write(&mut writer, field + 8);
        resp_headers.write(&mut writer, field + 12);
        if let Some(body) = body {
            writer.bytes(field + 16, body);
        }
    })
}

/// Appends the same as [`rewrite`] does when there are headers and nothing else: what most calls are answered with.
///
/// # Errors
/// As [`rewrite`].
#[inline]
pub fn rewrite_headers<'a>(
    out: &mut Vec<u8>,
    id: u32,
    headers: impl IntoIterator<Item = Entry<'a>, IntoIter: Clone>,
) -> Result<(), TooLong> {
    let headers = List::new(headers);
    frame::encode(out, kind::HTTP_REQ_CALL, |out| {
        let mut writer = Writer::head(out, &before_headers(id, headers.len as u32));
        let pairs = headers.entries.map(|entry| (entry.name, entry.value));
        writer.elements(headers.len, pairs);
    })
}

/// Appends the answer to a response call. `None` keeps the upstream's status and body, and so does an empty body
/// (gateway); any header replaces all of the upstream's, so they are given whole.
///
/// # Errors
/// [`TooLong`] when headers and body do not fit into a frame; `out` is then as it was.
#[inline]
pub fn response<'a>(
    out: &mut Vec<u8>,
    id: u32,
    status: Option<u16>,
    headers: impl IntoIterator<Item = Entry<'a>, IntoIter: Clone>,
    body: Option<&[u8]>,
) -> Result<(), TooLong> {
    fits(body.unwrap_or_default())?;
    let headers = List::new(headers);
    frame::encode(out, kind::HTTP_RESP_CALL, |out| {
        let cells = [
            Cell::Value(id),
            status.map_or(Cell::Absent, |status| Cell::Value(status.into())),
            headers.cell(),
            Cell::offset_if(body.is_some()),
        ];
        let (mut writer, field) = Writer::root(out, cells);
        headers.write(&mut writer, field + 8);
        if let Some(body) = body {
            writer.bytes(field + 12, body);
        }
    })
}

/// All that stands before the elements of a Rewrite with `count` headers and nothing else.
#[inline]
fn before_headers(id: u32, count: u32) -> [u8; 76] {
    let words = [
        // The way to the root; its vtable (padding, two lengths, three fields); the root: id, kind and place of the action.
        0x10,
        0x000a_0000,
        0x0004_0010,
        0x000c_0008,
        0x0a,
        id,
        2,
        0x14,
        // The vtable of the action (padding, two lengths, the headers alone of five fields); the action; the vector's length.
        0x000e_0000,
        0x18,
        0x08,
        0,
        0x0e,
        0,
        0x10,
        0,
        0,
        0,
        count,
    ];
    let mut bytes = [0; 76];
    for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
        *place = u32::to_le_bytes(word);
    }
    bytes
}

/// Refuses what alone is longer than a frame, before it is copied.
pub(super) fn fits(bytes: &[u8]) -> Result<(), TooLong> {
    match bytes.len() {
        len if len > MAX_PAYLOAD => Err(TooLong { len }),
        _ => Ok(()),
    }
}

/// Stands for a body that [`leave_body_out`] leaves out.
pub const STAND_IN: &[u8] = &[0; 4];

/// Makes the reply that begins at `start` of `out`, and has the body [`STAND_IN`], what one with a body of `len` bytes begins
/// with. The rest of its frame are those bytes, and zeros up to a multiple of four.
///
/// # Errors
/// [`TooLong`] when the whole would not fit into a frame; `out` then ends at `start`.
pub fn leave_body_out(out: &mut Vec<u8>, start: usize, len: usize) -> Result<(), TooLong> {
    // A body is the last thing of a reply.
    out.truncate(out.len() - STAND_IN.len());
    let head = out.len() - start - frame::HEADER;
    let whole = head + len.next_multiple_of(4);
    if whole > MAX_PAYLOAD {
        out.truncate(start);
        return Err(TooLong { len: whole });
    }
    if let Some(written) = out.last_chunk_mut() {
        *written = (len as u32).to_le_bytes();
    }
    frame::set_length(out, start, whole);
    Ok(())
}

/// Appends a frame whose message is a table of numbers.
fn numbers<const N: usize>(out: &mut Vec<u8>, kind: u8, values: [u32; N]) {
    let written = frame::encode(out, kind, |out| {
        Writer::root(out, values.map(Cell::Value));
    });
    debug_assert!(written.is_ok(), "some tens of bytes always fit");
}

/// Starts the answer to a request call with an action of this number in the schema's `Action` union; returns the
/// position of the offset to the action.
#[inline]
fn action(out: &mut Vec<u8>, id: u32, number: u32) -> (Writer<'_>, usize) {
    let cells = [Cell::Value(id), Cell::Value(number), Cell::Offset];
    let (writer, field) = Writer::root(out, cells);
    (writer, field + 8)
}

/// Entries to write, counted.
struct List<I> {
    len: usize,
    entries: I,
}

impl<'a, I: Iterator<Item = Entry<'a>> + Clone> List<I> {
    #[inline]
    fn new(entries: impl IntoIterator<Item = Entry<'a>, IntoIter = I>) -> Self {
        let entries = entries.into_iter();
        let len = match entries.size_hint() {
            (least, Some(most)) if least == most => most,
            _ => entries.clone().count(),
        };
        Self { len, entries }
    }

    #[inline]
    fn cell(&self) -> Cell {
        Cell::offset_if(self.len > 0)
    }

    #[inline]
    fn write(self, writer: &mut Writer<'_>, from: usize) {
        if self.len > 0 {
            let pairs = self.entries.map(|entry| (entry.name, entry.value));
            writer.pairs(from, self.len, pairs);
        }
    }
}
