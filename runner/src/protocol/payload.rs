//! A payload in the buffer that its frame was read into. Never looks into it.

use std::ops::Deref;

use super::frame::HEADER;

/// A payload, and the buffer that holds its whole frame: taking the header off would move all bytes behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    buffer: Vec<u8>,
    from: usize,
}

impl Payload {
    /// The payload of the one frame in `buffer`; empty if there is no whole header.
    #[inline]
    pub fn of_frame(buffer: Vec<u8>) -> Self {
        Self {
            buffer,
            from: HEADER,
        }
    }

    /// Gives the buffer back, to be used again.
    #[inline]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// A payload without a frame.
impl From<Vec<u8>> for Payload {
    fn from(buffer: Vec<u8>) -> Self {
        Self { buffer, from: 0 }
    }
}

impl Deref for Payload {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.buffer.get(self.from..).unwrap_or_default()
    }
}
