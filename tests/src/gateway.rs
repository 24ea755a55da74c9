//! The gateway's end of the socket. It does what a test says and nothing by itself.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::message::{
    Code, EXTRA_INFO, HTTP_REQ_CALL, HTTP_RESP_CALL, PREPARE_CONF, Question, Reply, Request,
    Response, answer_payload, prepare_payload, read_token,
};
use crate::wait::DEADLINE;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The first byte.
    pub kind: u8,
    /// What follows the length.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The reply in it.
    #[track_caller]
    pub fn reply(&self) -> Reply {
        Reply::read(self.kind, &self.payload)
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
    bytes[0] = kind;
    bytes.extend(payload);
    bytes
}

/// One connection of a gateway.
pub struct Gateway {
    stream: UnixStream,
    /// What it answers to EXTRA_INFO; everything else is absent.
    pub facts: HashMap<Question, Vec<u8>>,
    /// What it was asked, in order.
    pub asked: Vec<Question>,
}

impl Gateway {
    /// Connects.
    ///
    /// # Panics
    /// Nobody accepts.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the runner accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            facts: HashMap::new(),
            asked: Vec::new(),
        }
    }

    /// Waits ten times as long for a frame.
    #[must_use]
    pub fn patient(self) -> Self {
        self.stream.set_read_timeout(Some(10 * DEADLINE)).unwrap();
        self
    }

    /// Adds a variable that it knows.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        let question = Question::Variable(name.to_owned());
        self.facts.insert(question, value.into());
        self
    }

    /// Adds the client's body.
    #[must_use]
    pub fn request_body(mut self, body: &str) -> Self {
        self.facts.insert(Question::RequestBody, body.into());
        self
    }

    /// Adds the upstream's body.
    #[must_use]
    pub fn response_body(mut self, body: &str) -> Self {
        self.facts.insert(Question::ResponseBody, body.into());
        self
    }

    /// Writes bytes as they are.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the runner reads");
    }

    /// Writes a frame.
    #[track_caller]
    pub fn send(&mut self, kind: u8, payload: &[u8]) {
        self.write(&frame(kind, payload));
    }

    /// The next frame.
    ///
    /// # Panics
    /// None comes in time, or the connection is closed.
    #[track_caller]
    pub fn receive(&mut self) -> Frame {
        match self.try_receive() {
            Ok(Some(frame)) => frame,
            Ok(None) => panic!("the runner closed the connection"),
            Err(error) => panic!("no frame came: {error}"),
        }
    }

    /// The next frame; `None` when the connection is closed instead.
    ///
    /// # Errors
    /// Nothing comes in time, or the connection ends in the middle of a frame.
    pub fn try_receive(&mut self) -> std::io::Result<Option<Frame>> {
        let mut head = [0; 4];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
        let kind = head[0];
        head[0] = 0;
        let mut payload = vec![0; u32::from_be_bytes(head) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Some(Frame { kind, payload }))
    }

    /// The next frame that is no question; questions are answered from what it knows.
    #[track_caller]
    pub fn receive_reply(&mut self) -> Frame {
        match self.try_receive_reply() {
            Ok(Some(frame)) => frame,
            Ok(None) => panic!("the runner closed the connection"),
            Err(error) => panic!("no reply came: {error}"),
        }
    }

    /// As [`Gateway::receive_reply`]; `None` when the connection is closed instead.
    ///
    /// # Errors
    /// Nothing comes in time, or the connection breaks.
    pub fn try_receive_reply(&mut self) -> std::io::Result<Option<Frame>> {
        loop {
            match self.try_receive()? {
                Some(frame) if frame.kind == EXTRA_INFO => {
                    let question = Question::read(&frame.payload).expect("a readable question");
                    let payload = answer_payload(self.facts.get(&question).map(Vec::as_slice));
                    self.asked.push(question);
                    self.stream
                        .write_all(&crate::gateway::frame(EXTRA_INFO, &payload))?;
                }
                other => return Ok(other),
            }
        }
    }

    /// PREPARE_CONF with a key made of the conf.
    ///
    /// # Panics
    /// The runner refuses it.
    #[track_caller]
    pub fn prepare(&mut self, conf: &[(&str, &str)]) -> u32 {
        self.try_prepare(&format!("route#1#ext-plugin-pre-req#{conf:?}"), conf)
            .unwrap_or_else(|code| panic!("the conf was refused: {code:?}"))
    }

    /// PREPARE_CONF.
    ///
    /// # Errors
    /// The code of the ERROR frame that came instead of a token.
    #[track_caller]
    pub fn try_prepare(&mut self, key: &str, conf: &[(&str, &str)]) -> Result<u32, Code> {
        self.send(PREPARE_CONF, &prepare_payload(key, conf));
        let frame = self.receive();
        if frame.kind == PREPARE_CONF {
            return Ok(read_token(&frame.payload).expect("a token"));
        }
        match frame.reply() {
            Reply::Error(code) => Err(code),
            other => panic!("{other:?} is no answer to PREPARE_CONF"),
        }
    }

    /// HTTP_REQ_CALL, and its reply.
    #[track_caller]
    pub fn request(&mut self, token: u32, request: &Request) -> Reply {
        self.send(HTTP_REQ_CALL, &request.payload(token));
        self.receive_reply().reply()
    }

    /// HTTP_RESP_CALL, and its reply.
    #[track_caller]
    pub fn response(&mut self, token: u32, response: &Response) -> Reply {
        self.send(HTTP_RESP_CALL, &response.payload(token));
        self.receive_reply().reply()
    }

    /// A GET of `/` with this conf, and its reply.
    #[track_caller]
    pub fn get(&mut self, conf: &[(&str, &str)]) -> Reply {
        let token = self.prepare(conf);
        self.request(token, &Request::get("/"))
    }

    /// Whether the runner closes the connection without another byte.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        matches!(self.try_receive(), Ok(None))
    }

    /// Writes bytes as they are, to somebody who may have left.
    pub fn try_write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be read.
    pub fn stop_receiving(&self) {
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Says that nothing more will be sent.
    pub fn stop_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
