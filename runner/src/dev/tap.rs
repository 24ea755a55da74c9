//! Remembers the head of an upstream's reply as it was written: the HTTP client lowers header names, the gateway does not.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More of a reply than its head is not kept.
const KEPT: usize = 256 * 1024;

/// A stream that copies the first bytes that are read from it.
pub(super) struct Tap {
    stream: TcpStream,
    head: Head,
}

/// The copied bytes.
#[derive(Clone, Default)]
pub(super) struct Head(Arc<Mutex<Vec<u8>>>);

impl Tap {
    pub(super) fn new(stream: TcpStream) -> (Self, Head) {
        let head = Head::default();
        (
            Self {
                stream,
                head: head.clone(),
            },
            head,
        )
    }
}

impl Head {
    /// A header's name in the case of its first line in the reply.
    pub(super) fn as_written(&self, lower: &str) -> Vec<u8> {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = bytes
            .split(|&byte| byte == b'\n')
            .skip(1)
            .take_while(|line| !line.trim_ascii().is_empty());
        let mut names = lines.filter_map(|line| line.split(|&byte| byte == b':').next());
        let found = names.find(|name| name.eq_ignore_ascii_case(lower.as_bytes()));
        found.unwrap_or(lower.as_bytes()).to_vec()
    }

    fn take(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.head.take(&buffer.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
