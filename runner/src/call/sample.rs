//! The request or response that is run through plugins: from the command line, or from a file that looks like HTTP.
//!
//! ```text
//! POST /orders?page=2          or, for a response:   HTTP/1.1 200
//! Host: shop.test                                    Content-Type: text/plain
//! X-Key: secret
//! $remote_port: 4711           a variable of the gateway
//!
//! the body, up to the end of the file (without its last line break)
//! ```

use std::net::IpAddr;

use crate::dev::frames::{self, Asked};
use crate::request::hook::Hook;

/// The key of a chain without a call.
pub(super) const BEFORE: &str = "route#call#ext-plugin-pre-req#1";

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    kind: Kind,
    /// Names in lower case, as the gateway sends them.
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    variables: Vec<(String, String)>,
    address: IpAddr,
    after: bool,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Request { method: String, target: String },
    Response { status: u16 },
}

/// Why there is no call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSample {
    /// The first line of a file.
    #[error("line 1 is `{0}`: it is `GET /path` for a request, or `HTTP/1.1 200` for a response")]
    Start(String),
    /// Another line of a file, or an option.
    #[error("`{0}` is no header: it is `Name: value`, or `$variable: value`")]
    Header(String),
    /// An option.
    #[error("`{0}` is no variable: it is `name=value`")]
    Variable(String),
    /// A method that the gateway cannot express.
    #[error("the protocol has no method `{0}`")]
    Method(String),
    /// A path.
    #[error("`{0}` is no path: it starts with `/`")]
    Path(String),
    /// A status.
    #[error("{0} is no status: 100 to 599")]
    Status(u16),
    /// Words on the command line.
    #[error("what is asked for is `[METHOD] PATH`, not {0} words")]
    Words(usize),
}

impl Sample {
    /// A request.
    ///
    /// # Errors
    /// There is no such method, or the path is none.
    pub fn request(method: &str, target: &str) -> Result<Self, BadSample> {
        if !target.starts_with('/') {
            return Err(BadSample::Path(target.to_owned()));
        }
        let method = method.to_ascii_uppercase();
        let sample = Self::new(Kind::Request {
            method,
            target: target.to_owned(),
        });
        sample.payload(0).map(|_| sample)
    }

    /// An upstream's response.
    ///
    /// # Errors
    /// It is no status.
    pub fn response(status: u16) -> Result<Self, BadSample> {
        match status {
            100..=599 => Ok(Self::new(Kind::Response { status })),
            _ => Err(BadSample::Status(status)),
        }
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            headers: Vec::new(),
            body: None,
            variables: Vec::new(),
            address: [127, 0, 0, 1].into(),
            after: false,
            route: "call".to_owned(),
        }
    }

    /// From the text of a file.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn read(text: &str) -> Result<Self, BadSample> {
        let text = text.replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let mut sample = Self::first_line(lines.next().unwrap_or_default())?;
        for line in lines {
            sample.add_header(line)?;
        }
        let body = body.strip_suffix('\n').unwrap_or(body);
        if !body.is_empty() {
            sample.set_body(body.as_bytes().to_vec());
        }
        Ok(sample)
    }

    fn first_line(line: &str) -> Result<Self, BadSample> {
        let bad = || BadSample::Start(line.to_owned());
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [version, status, ..] if version.starts_with("HTTP/") => {
                Self::response(status.parse().map_err(|_| bad())?)
            }
            [method, target] => Self::request(method, target),
            [method, target, version] if version.starts_with("HTTP/") => {
                Self::request(method, target)
            }
            _ => Err(bad()),
        }
    }

    /// Adds `Name: value`, or `$variable: value`.
    ///
    /// # Errors
    /// It is neither.
    pub fn add_header(&mut self, line: &str) -> Result<(), BadSample> {
        let parts = line
            .split_once(':')
            .map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) = parts
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| BadSample::Header(line.to_owned()))?;
        match name.strip_prefix('$') {
            Some(variable) => self.variables.push((variable.to_owned(), value.to_owned())),
            None if name.contains(char::is_whitespace) => {
                return Err(BadSample::Header(line.to_owned()));
            }
            None => self
                .headers
                .push((name.to_ascii_lowercase(), value.to_owned())),
        }
        Ok(())
    }

    /// Adds `name=value`.
    ///
    /// # Errors
    /// It is not that.
    pub fn add_variable(&mut self, variable: &str) -> Result<(), BadSample> {
        let parts = variable
            .split_once('=')
            .filter(|(name, _)| !name.is_empty());
        let (name, value) = parts.ok_or_else(|| BadSample::Variable(variable.to_owned()))?;
        self.variables.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// A variable of the gateway.
    pub fn set_variable(&mut self, name: &[u8], value: &str) {
        let name = String::from_utf8_lossy(name).into_owned();
        self.variables.push((name, value.to_owned()));
    }

    /// The body.
    pub fn set_body(&mut self, body: Vec<u8>) {
        self.body = Some(body);
    }

    /// The client's address.
    pub fn set_address(&mut self, address: IpAddr) {
        self.address = address;
    }

    /// Whether it is a response.
    pub fn is_response(&self) -> bool {
        matches!(self.kind, Kind::Response { .. })
    }

    /// `GET /path`, `a response with status 200`
    pub fn title(&self) -> String {
        match &self.kind {
            Kind::Request { method, target } => format!("{method} {target}"),
            Kind::Response { status } => format!("a response with status {status}"),
        }
    }

    /// The gateway calls after its own plugins, not before. Of a response it always does.
    pub fn set_after(&mut self) {
        self.after = true;
    }

    /// Id of the gateway's route.
    pub fn set_route(&mut self, route: &str) {
        route.clone_into(&mut self.route);
    }

    /// Where the gateway calls from.
    pub fn hook(&self) -> Hook {
        match (&self.kind, self.after) {
            (Kind::Response { .. }, _) => Hook::Response,
            (Kind::Request { .. }, true) => Hook::PostRequest,
            (Kind::Request { .. }, false) => Hook::PreRequest,
        }
    }

    /// The gateway's key of the chain that it goes through.
    pub(super) fn route_key(&self) -> String {
        let plugin = match self.hook() {
            Hook::Response => "ext-plugin-post-resp",
            Hook::PostRequest => "ext-plugin-post-req",
            Hook::PreRequest => "ext-plugin-pre-req",
        };
        format!("route#{}#{plugin}#1", self.route)
    }

    /// What the gateway would answer to questions.
    pub(super) fn answers(&self) -> Vec<(Asked, Vec<u8>)> {
        let variables = self.variables.iter();
        let variables = variables
            .map(|(name, value)| (Asked::Variable(name.clone().into()), value.clone().into()));
        let body = match self.kind {
            Kind::Request { .. } => Asked::RequestBody,
            Kind::Response { .. } => Asked::ResponseBody,
        };
        variables
            .chain(self.body.clone().map(|bytes| (body, bytes)))
            .collect()
    }

    pub(super) fn payload(&self, token: u32) -> Result<Vec<u8>, BadSample> {
        let (method, target) = match &self.kind {
            Kind::Response { status } => {
                return Ok(frames::response(*status, &self.headers, token));
            }
            Kind::Request { method, target } => (method, target),
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = self.headers.clone();
        if !headers.iter().any(|(name, _)| name == "host") {
            headers.push(("host".to_owned(), "127.0.0.1".to_owned()));
        }
        let args = query.split('&').filter(|part| !part.is_empty());
        let request = frames::Request {
            method: method.clone(),
            path: percent_encoding::percent_decode_str(path).collect(),
            args: args.map(arg).collect(),
            headers,
            address: match self.address {
                IpAddr::V4(address) => address.octets().into(),
                IpAddr::V6(address) => address.octets().into(),
            },
        };
        frames::request(&request, token).ok_or_else(|| BadSample::Method(method.clone()))
    }
}

/// `a=b` decoded; without `=` there is no value.
fn arg(part: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let decode = |text: &str| -> Vec<u8> {
        let spaces = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaces).collect()
    };
    match part.split_once('=') {
        Some((name, value)) => (decode(name), Some(decode(value))),
        None => (decode(part), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_looks_like_http() {
        let text = "POST /a%20b?x=1&flag HTTP/1.1\r\nHost: shop.test\r\n$remote_port: 4711\r\n\r\nthe body\r\n";
        let sample = Sample::read(text).unwrap();
        let mut wanted = Sample::request("post", "/a%20b?x=1&flag").unwrap();
        wanted.add_header("HOST:shop.test").unwrap();
        wanted.add_variable("remote_port=4711").unwrap();
        wanted.set_body(b"the body".to_vec());
        assert_eq!(sample, wanted);
        let response = Sample::read("HTTP/1.1 404 Not Found\ncontent-type: a/b\n").unwrap();
        assert!(response.is_response() && response.body.is_none());
    }

    #[test]
    fn what_is_no_call_is_refused_with_the_line() {
        for (text, says) in [
            ("", "line 1 is ``"),
            ("GET", "line 1 is `GET`"),
            ("GET /x nonsense", "line 1 is"),
            ("GET x", "`x` is no path"),
            ("BREW /pot", "no method `BREW`"),
            ("HTTP/1.1 abc", "line 1 is"),
            ("HTTP/1.1 999", "999 is no status"),
            ("GET /\nno header", "`no header` is no header"),
            ("GET /\n: x", "is no header"),
        ] {
            let error = Sample::read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
