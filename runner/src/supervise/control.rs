//! The control socket between supervisor and worker: whole messages, each with raw bytes and descriptors if it
//! needs them. Knows nothing of what the messages mean to either side.
//!
//! A message on the wire: u32 length of the JSON, u32 length of the tail (both big-endian), the JSON, the tail.
//! Descriptors travel with its first byte (SCM_RIGHTS).

pub mod message;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Descriptors in one message at most.
const MAX_DESCRIPTORS: usize = 4;
/// Bytes of JSON or of a tail at most: a PREPARE_CONF payload has under 2^24.
const MAX_LENGTH: usize = 1 << 24;
const HEADER: usize = 8;

/// A received message.
#[derive(Debug)]
pub struct Received<M> {
    /// What it says.
    pub message: M,
    /// Raw bytes that go with it.
    pub tail: Vec<u8>,
    /// Descriptors that go with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// The sending half. Clones share the socket; each message goes out whole.
#[derive(Debug, Clone)]
pub struct Sender {
    socket: Arc<UnixStream>,
    /// Whose message is on its way.
    turn: Arc<Mutex<()>>,
}

/// The receiving half: one owner, one thread.
#[derive(Debug)]
pub struct Receiver(UnixStream);

/// Splits one end of a control socket.
///
/// # Errors
/// When the descriptor cannot be duplicated.
pub fn split(socket: UnixStream) -> io::Result<(Sender, Receiver)> {
    let receiving = socket.try_clone()?;
    let sender = Sender {
        socket: Arc::new(socket),
        turn: Arc::default(),
    };
    Ok((sender, Receiver(receiving)))
}

impl Sender {
    /// Sends a message without tail and descriptors; blocks while the other side reads nothing.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[], &[])
    }

    /// Sends a message with a tail and descriptors (which stay ours); blocks while the other side reads nothing.
    ///
    /// # Errors
    /// When the other side is gone, or a part is too long.
    pub fn send_with(
        &self,
        message: &impl Serialize,
        tail: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        if json.len() > MAX_LENGTH || tail.len() > MAX_LENGTH || descriptors.len() > MAX_DESCRIPTORS
        {
            return Err(io::Error::other("a control message is too long"));
        }
        let mut start = Vec::with_capacity(HEADER + json.len());
        start.extend_from_slice(&(json.len() as u32).to_be_bytes());
        start.extend_from_slice(&(tail.len() as u32).to_be_bytes());
        start.extend_from_slice(&json);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = &*self.socket;
        let sent = send_start(socket, &start, tail, descriptors)?;
        socket.write_all(&start[sent.min(start.len())..])?;
        socket.write_all(&tail[sent.saturating_sub(start.len())..])
    }

    /// Ends the connection in both directions: the other side reads its end, and so do we. Never blocks: a message that
    /// the other side does not read ends as well.
    pub fn close(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

fn send_start(
    socket: &UnixStream,
    start: &[u8],
    tail: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let parts = [IoSlice::new(start), IoSlice::new(tail)];
    loop {
        match sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Receiver {
    /// The next message, or `None` when the other side closed the socket. Blocks until then.
    ///
    /// # Errors
    /// When the other side ended in the middle of a message, sent nonsense, or descriptors were lost.
    pub fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<Received<M>>> {
        let mut header = [0; HEADER];
        let mut descriptors = Vec::new();
        let mut filled = 0;
        while filled < HEADER {
            match read_with_descriptors(self.0.as_fd(), &mut header[filled..], &mut descriptors)? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
        }
        let [a, b, c, d, e, f, g, h] = header;
        let json = self.read(u32::from_be_bytes([a, b, c, d]))?;
        let tail = self.read(u32::from_be_bytes([e, f, g, h]))?;
        Ok(Some(Received {
            message: serde_json::from_slice(&json)?,
            tail,
            descriptors,
        }))
    }

    fn read(&mut self, length: u32) -> io::Result<Vec<u8>> {
        if length as usize > MAX_LENGTH {
            return Err(io::Error::other("a control message is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads some bytes and the descriptors that come with them.
///
/// # Errors
/// The system refuses, or descriptors were lost.
pub fn read_with_descriptors(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(into)];
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, parts, &mut ancillary, flags) {
            Err(rustix::io::Errno::INTR) => {}
            received => break received?,
        }
    };
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other(
            "descriptors were lost on the control socket (too many open files?)",
        ));
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ((Sender, Receiver), (Sender, Receiver)) {
        let (a, b) = UnixStream::pair().unwrap();
        (split(a).unwrap(), split(b).unwrap())
    }

    #[test]
    fn messages_arrive_whole_in_order_with_their_own_tails_and_descriptors() {
        let ((sender, _), (_, mut receiver)) = pair();
        let writing = std::thread::spawn(move || {
            for n in 0..100usize {
                let tail = vec![n as u8; n * 5000];
                let file = std::fs::File::open("/dev/null").unwrap();
                let descriptors = vec![file.as_fd(); n % (MAX_DESCRIPTORS + 1)];
                sender.send_with(&n, &tail, &descriptors).unwrap();
            }
        });
        for n in 0..100usize {
            let received: Received<usize> = receiver.receive().unwrap().unwrap();
            assert_eq!(received.message, n);
            assert_eq!(received.tail, vec![n as u8; n * 5000]);
            assert_eq!(received.descriptors.len(), n % (MAX_DESCRIPTORS + 1));
        }
        writing.join().unwrap();
    }

    #[test]
    fn a_received_descriptor_is_the_one_that_was_sent_and_close_on_exec() {
        let ((sender, _), (_, mut receiver)) = pair();
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        sender
            .send_with(&(), b"", &[writing.as_fd(), reading.as_fd()])
            .unwrap();
        drop((reading, writing));
        let received: Received<()> = receiver.receive().unwrap().unwrap();
        let [writing, reading] = <[OwnedFd; 2]>::try_from(received.descriptors).unwrap();
        for descriptor in [&writing, &reading] {
            let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
            assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
        }
        rustix::io::write(&writing, b"x").unwrap();
        assert_eq!(rustix::io::read(&reading, &mut [0; 4]).unwrap(), 1);
    }

    #[test]
    fn the_end_between_messages_is_no_error_and_the_end_inside_one_is() {
        let ((sender, _), (_, mut receiver)) = pair();
        sender.close();
        assert!(receiver.receive::<()>().unwrap().is_none());

        let (mut raw, other) = UnixStream::pair().unwrap();
        let (_, mut receiver) = split(other).unwrap();
        raw.write_all(&[0, 0, 0, 9, 0]).unwrap();
        drop(raw);
        assert!(receiver.receive::<()>().is_err());
    }

    #[test]
    fn closing_does_not_wait_for_a_message_that_nobody_reads() {
        let ((sender, _), (_, _receiver)) = pair();
        let (writer, (tell, told)) = (sender.clone(), std::sync::mpsc::channel());
        let writing = std::thread::spawn(move || {
            writer.send(&"small").unwrap();
            tell.send(()).unwrap();
            writer.send_with(&"large", &vec![0; MAX_LENGTH], &[])
        });
        told.recv().unwrap();
        sender.close();
        assert!(writing.join().unwrap().is_err());
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let (mut raw, other) = UnixStream::pair().unwrap();
        let (_, mut receiver) = split(other).unwrap();
        raw.write_all(&[0xff; 8]).unwrap();
        let error = receiver.receive::<()>().unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    }
}
