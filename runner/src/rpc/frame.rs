//! Bytes ↔ frame: one byte of kind, three bytes of payload length (big-endian), the payload.
//!
//! Pure functions over a buffer. This file never touches a socket and never looks into a payload.
//! Source: gateway-facts.md, "Wire"; the bytes in `tests/fixtures/captures`.

/// Bytes in front of every payload.
pub const HEADER: usize = 4;

/// The longest payload: the header's length field is 24 bits wide.
pub const MAX_PAYLOAD: usize = (1 << 24) - 1;

/// The first byte of a frame.
pub mod kind {
    /// The runner's answer to a call it cannot serve.
    pub const ERROR: u8 = 0;
    /// A route's plugin configuration, and the token that stands for it from then on.
    pub const PREPARE_CONF: u8 = 1;
    /// A call about a request, from ext-plugin-pre-req or ext-plugin-post-req.
    pub const HTTP_REQ_CALL: u8 = 2;
    /// A question of the runner in the middle of a call, and its answer.
    pub const EXTRA_INFO: u8 = 3;
    /// A call about a response, from ext-plugin-post-resp.
    pub const HTTP_RESP_CALL: u8 = 4;
}

/// One whole frame, borrowed from the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One of [`kind`], or a byte that the protocol does not know.
    pub kind: u8,
    /// A FlatBuffers buffer, not checked yet. The gateway never sends it empty.
    pub payload: &'a [u8],
}

/// A payload does not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a payload of {len} bytes does not fit into a frame: {MAX_PAYLOAD} bytes at most, send a shorter body"
)]
pub struct TooLong {
    /// Bytes the payload has (or at least has, if it was not written to its end).
    pub len: usize,
}

/// The kind and payload length of the header at the start of `buf`; `None` with fewer than [`HEADER`] bytes.
#[inline]
pub fn header(buf: &[u8]) -> Option<(u8, usize)> {
    let &[kind, a, b, c] = buf.first_chunk()?;
    Some((kind, u32::from_be_bytes([0, a, b, c]) as usize))
}

/// The first frame in `buf` and the bytes it takes there; `None` means that more bytes are needed.
#[inline]
pub fn decode(buf: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (kind, len) = header(buf)?;
    let payload = buf.get(HEADER..HEADER + len)?;
    Some((Frame { kind, payload }, HEADER + len))
}

/// Appends one frame to `out`: the header, then what `write` appends.
///
/// # Errors
/// [`TooLong`] when `write` appended more than [`MAX_PAYLOAD`] bytes; `out` is then as it was.
#[inline]
pub fn encode(
    out: &mut Vec<u8>,
    kind: u8,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0]);
    write(out);
    let len = out.len().saturating_sub(start + HEADER);
    if len > MAX_PAYLOAD {
        out.truncate(start);
        return Err(TooLong { len });
    }
    let [_, a, b, c] = (len as u32).to_be_bytes();
    if let Some(length) = out.get_mut(start + 1..start + HEADER) {
        length.copy_from_slice(&[a, b, c]);
    }
    Ok(())
}
