//! Bytes ↔ frame: one byte of kind, three bytes of payload length (big-endian), the payload.
//!
//! Pure functions over a buffer. This file never touches a socket and never looks into a payload.
//! Source: ext-plugin-proto 0.6.1, and what Apache APISIX 3.18.0 sends (`tests/fixtures/captures`).

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
    set_length(out, start, len);
    Ok(())
}

/// Says in the header at `start` of `out` that `len` bytes follow it, at most [`MAX_PAYLOAD`].
#[inline]
pub(super) fn set_length(out: &mut [u8], start: usize, len: usize) {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    if let Some(length) = out.get_mut(start + 1..start + HEADER) {
        length.copy_from_slice(&[a, b, c]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, kind, |out| out.extend_from_slice(payload)).unwrap();
        out
    }

    #[test]
    fn a_frame_cut_at_any_byte_needs_more() {
        let whole = framed(kind::HTTP_REQ_CALL, b"some payload");
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), None, "{cut} bytes");
        }
        assert!(decode(&whole).is_some());
    }

    #[test]
    fn of_two_glued_frames_the_first_ends_where_the_second_starts() {
        let mut both = framed(kind::EXTRA_INFO, b"one");
        both.extend(framed(kind::ERROR, b""));
        let (first, used) = decode(&both).unwrap();
        assert_eq!((first.kind, first.payload), (kind::EXTRA_INFO, &b"one"[..]));
        let (second, rest) = decode(&both[used..]).unwrap();
        assert_eq!((second.kind, second.payload), (kind::ERROR, &b""[..]));
        assert_eq!(used + rest, both.len());
    }

    #[test]
    fn payloads_up_to_24_bits_of_length_come_back_as_they_went_in() {
        for len in [0, 1, 255, 256, 65_536, MAX_PAYLOAD - 1, MAX_PAYLOAD] {
            let payload = vec![7; len];
            let whole = framed(9, &payload);
            assert_eq!(header(&whole), Some((9, len)));
            let (frame, used) = decode(&whole).unwrap();
            assert!(frame.payload == payload, "{len} bytes");
            assert_eq!((frame.kind, used), (9, whole.len()));
        }
    }

    #[test]
    fn one_byte_too_many_is_refused_and_leaves_the_buffer_as_it_was() {
        let mut out = b"before".to_vec();
        let len = MAX_PAYLOAD + 1;
        let refused = encode(&mut out, 2, |out| out.resize(out.len() + len, 0));
        assert_eq!(refused, Err(TooLong { len }));
        assert_eq!(out, b"before");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_need_more(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            match decode(&bytes) {
                Some((frame, used)) => {
                    prop_assert_eq!(&framed(frame.kind, frame.payload), &bytes[..used]);
                }
                None => prop_assert!(header(&bytes).is_none_or(|(_, len)| HEADER + len > bytes.len())),
            }
        }
    }
}
