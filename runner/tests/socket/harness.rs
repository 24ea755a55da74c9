//! A server on a socket of its own, and the gateway's side of a connection.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugin_runner::protocol::frame::{self, kind};
use plugin_runner::rpc::server::{Server, Settings};

use crate::service::{Fake, Shared, put};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    pub(crate) fake: Arc<Fake>,
    pub(crate) server: Server<Shared>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

pub(crate) fn settings() -> Settings {
    Settings {
        event_loops: 1,
        threads: 4,
        deadline: Duration::from_secs(10),
        allowed_peers: Vec::new(),
        freed: |_| (),
    }
}

pub(crate) fn serve() -> Running {
    serve_with(settings())
}

pub(crate) fn serve_with_deadline(deadline: Duration) -> Running {
    serve_with(Settings {
        deadline,
        ..settings()
    })
}

pub(crate) fn serve_with(settings: Settings) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let fake = Fake::new();
    let service = Arc::new(Shared(Arc::clone(&fake)));
    Running {
        server: Server::start(listener.into(), service, settings).unwrap(),
        fake,
        path,
        _folder: folder,
    }
}

impl Running {
    pub(crate) fn connect(&self) -> Gateway {
        Gateway::new(UnixStream::connect(&self.path).unwrap())
    }
}

/// One connection of the gateway.
pub(crate) struct Gateway(pub(crate) UnixStream);

/// A frame as the gateway sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Gateway {
    fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, kind: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, payload);
        self.0.write_all(&bytes).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Frame {
        let mut head = [0; frame::HEADER];
        self.0.read_exact(&mut head).unwrap();
        let (kind, len) = frame::header(&head).unwrap();
        let mut payload = vec![0; len];
        self.0.read_exact(&mut payload).unwrap();
        Frame { kind, payload }
    }

    /// Makes a request call.
    pub(crate) fn call(&mut self, payload: &[u8]) -> Frame {
        self.send(kind::HTTP_REQ_CALL, payload);
        self.receive()
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, payload: &[u8]) {
        let frame = self.receive();
        assert_eq!(frame.kind, kind::HTTP_REQ_CALL, "{frame:?}");
        assert_eq!(frame.payload, payload);
    }

    #[track_caller]
    pub(crate) fn expect_error(&mut self) {
        let frame = self.receive();
        assert_eq!(frame.kind, kind::ERROR, "{frame:?}");
    }

    /// Checks that an ordinary call works.
    #[track_caller]
    pub(crate) fn expect_to_work(&mut self) {
        self.send(kind::HTTP_REQ_CALL, b"echo");
        self.expect(b"echo");
    }

    /// Reads to the end and returns what came.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).unwrap();
        rest
    }
}

/// Waits until `condition` holds, looking often.
#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::yield_now();
    }
}
