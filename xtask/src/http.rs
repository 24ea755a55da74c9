//! A small HTTP/1.1 client: one connection, one request at a time. It reads what the local gateway writes and no more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Longer than the runner's own deadline for a call.
const TIMEOUT: Duration = Duration::from_secs(15);

/// What is asked.
pub(crate) struct Request {
    target: String,
    /// As lines.
    headers: String,
}

impl Request {
    /// A GET of a path with its query.
    pub(crate) fn get(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            headers: String::new(),
        }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// The request as it goes over the wire.
    pub(crate) fn text(&self) -> String {
        let Self { target, headers } = self;
        format!("GET {target} HTTP/1.1\r\nHost: demo.test\r\n{headers}\r\n")
    }
}

/// What came back.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Status line and headers.
    head: String,
    /// The body, as text.
    pub(crate) body: String,
}

impl Answer {
    /// Head and body as a person reads them.
    pub(crate) fn text(&self) -> String {
        format!("{}\n{}", self.head, self.body)
    }
}

/// One connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection breaks, times out, or what comes is no HTTP.
    pub(crate) fn send(&mut self, request: &Request) -> Result<Answer> {
        self.0.get_mut().write_all(request.text().as_bytes())?;
        let first = self.line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("`{first}` is no status line"))?;
        let (mut head, mut length, mut chunked) = (first + "\n", 0, false);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= lower == "transfer-encoding: chunked";
            head += &(line + "\n");
        }
        let body = if chunked {
            self.chunks()?
        } else {
            self.exactly(length)?
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status, head, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            bail!("the gateway closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.line()?, 16)?;
            body.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}
