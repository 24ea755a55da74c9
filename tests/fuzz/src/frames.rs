//! Bytes ↔ frames.

use plugin_runner::protocol::frame::{HEADER, decode, encode, header};

/// Reads any bytes as a stream: each frame, written again, is the bytes it was read from.
pub fn read(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((frame, used)) = decode(rest) {
        assert_eq!(header(rest), Some((frame.kind, frame.payload.len())));
        assert_eq!(framed(frame.kind, frame.payload), rest[..used]);
        rest = &rest[used..];
    }
    // What is left is the start of a frame.
    assert!(header(rest).is_none_or(|(_, len)| HEADER + len > rest.len()));
}

/// Reads frames back that were written one behind the other, whole and with the last byte missing.
pub fn written(frames: &[(u8, Vec<u8>)]) {
    let stream: Vec<u8> = frames
        .iter()
        .flat_map(|(kind, payload)| framed(*kind, payload))
        .collect();
    let mut rest = &stream[..];
    for (kind, payload) in frames {
        let (frame, used) = decode(rest).expect("a whole frame is read");
        assert_eq!((frame.kind, frame.payload), (*kind, &payload[..]));
        assert_eq!(decode(&rest[..used - 1]), None);
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
}

fn framed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out, kind, |out| out.extend_from_slice(payload)).expect("fuzz input is short");
    out
}
