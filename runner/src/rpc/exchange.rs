//! Questions that a running call asks the gateway (EXTRA_INFO): they block its thread, never past its deadline.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::connection::{Connection, Exchange, Turn, send};
use super::input::Filled;
use crate::protocol::frame::kind;
use crate::protocol::payload::Payload;
use crate::request::moment::Moment;
use crate::request::service::{Ask, AskError, Call};

/// The open line to the gateway of one running call.
pub(super) struct Line<'a, C: Call> {
    pub(super) connection: &'a Connection<C>,
    pub(super) turn: Turn,
}

impl<C: Call> Ask for Line<'_, C> {
    fn ask(&mut self, question: &[u8]) -> Result<Payload, AskError> {
        self.write(question)?;
        let answer = self.read()?;
        self.note(Exchange::None)?;
        Ok(answer)
    }
}

impl<C: Call> Line<'_, C> {
    fn write(&self, question: &[u8]) -> Result<(), AskError> {
        let mut rest = question;
        loop {
            {
                let mut state = self.connection.lock();
                let running = state.running(self.turn).ok_or(AskError::Deadline)?;
                if rest.len() == question.len() && running.exchange != Exchange::None {
                    return Err(AskError::Protocol); // an earlier question has failed
                }
                let sent = send(self.connection.socket(), rest).map_err(|_| AskError::Closed)?;
                rest = rest.get(sent..).unwrap_or_default();
                if rest.is_empty() {
                    running.exchange = Exchange::Open;
                    return Ok(());
                }
                if rest.len() < question.len() {
                    running.exchange = Exchange::Asking;
                }
            }
            self.wait(PollFlags::OUT)?;
        }
    }

    fn read(&self) -> Result<Payload, AskError> {
        loop {
            {
                let mut state = self.connection.lock();
                state.running(self.turn).ok_or(AskError::Deadline)?;
                let filled = state.fill(self.connection.socket());
                match state.take_answer() {
                    Some((kind::EXTRA_INFO, answer)) => return Ok(answer),
                    Some(_) => return Err(AskError::Protocol),
                    None => {}
                }
                match filled {
                    Filled::End => return Err(AskError::Closed),
                    Filled::Some { drained: false } => continue,
                    Filled::Some { drained: true } | Filled::Nothing => {}
                }
            }
            self.wait(PollFlags::IN)?;
        }
    }

    fn note(&self, now: Exchange) -> Result<(), AskError> {
        if self
            .connection
            .running(self.turn, |running| running.exchange = now)
        {
            Ok(())
        } else {
            Err(AskError::Deadline)
        }
    }

    /// Blocks until the socket is ready or the deadline has passed.
    fn wait(&self, flags: PollFlags) -> Result<(), AskError> {
        let left = self.turn.deadline.saturating_duration_since(Moment::now());
        if left.is_zero() {
            return Err(AskError::Deadline);
        }
        let socket = self.connection.socket();
        let timeout = Timespec::try_from(left).ok();
        match rustix::event::poll(&mut [PollFd::new(&socket, flags)], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(AskError::Closed),
        }
    }
}
