//! The call that is measured: a request as APISIX sends it, and the check of its answer. Knows no sockets.

use anyhow::{Context as _, Result, bail, ensure};
use e2e::flat::Table;
use e2e::gateway::frame;
use e2e::message::{HTTP_REQ_CALL, PREPARE_CONF, Request, prepare_payload};

/// Payload of the measured call in bytes, as in the recordings of a real gateway.
const PAYLOAD: usize = 1_012;

/// The header whose value the answer has to carry back.
const REQUEST_ID: &str = "7f9c24e5a1d34f0bb3c2d18e6a5b9c01";

/// Number of the measured action in the schema's `Action` union.
const REWRITE: u8 = 2;

/// A frame in which only the call's id changes.
#[derive(Debug, Clone)]
pub struct Numbered {
    bytes: Vec<u8>,
    id: usize,
}

impl Numbered {
    /// The bytes of two frames that differ in their ids, none of whose bytes are equal.
    fn of(one: Vec<u8>, other: &[u8]) -> Result<Self> {
        let id = one.iter().zip(other).position(|(one, other)| one != other);
        let id = id.context("the id of a call is not in its frame")?;
        ensure!(one.len() == other.len() && one[..id] == other[..id]);
        ensure!(one[id + 4..] == other[id + 4..], "more than the id differs");
        Ok(Self { bytes: one, id })
    }

    /// The frame, with this id.
    pub fn with(&mut self, id: u32) -> &[u8] {
        self.bytes[self.id..self.id + 4].copy_from_slice(&id.to_le_bytes());
        &self.bytes
    }

    /// Whether `frame` is this one with that id.
    fn is(&self, frame: &[u8], id: u32) -> bool {
        frame.len() == self.bytes.len()
            && frame[..self.id] == self.bytes[..self.id]
            && frame[self.id..self.id + 4] == id.to_le_bytes()
            && frame[self.id + 4..] == self.bytes[self.id + 4..]
    }
}

/// The frame of the measured call: 10 headers, 3 args, 1,012 bytes of payload.
pub fn request(token: u32) -> Result<Numbered> {
    let short = payload(1, token, "").len();
    // A string takes a multiple of four bytes.
    let cookie = "c".repeat(PAYLOAD.saturating_sub(short));
    let framed = |id| frame(HTTP_REQ_CALL, &payload(id, token, &cookie));
    let request = Numbered::of(framed(0x0101_0101), &framed(0x0202_0202))?;
    ensure!(
        request.bytes.len() == PAYLOAD + 4,
        "the call has another length"
    );
    Ok(request)
}

fn payload(id: u32, token: u32, cookie: &str) -> Vec<u8> {
    let mut request = measured(cookie);
    request.id = id;
    request.payload(token)
}

fn measured(cookie: &str) -> Request {
    Request::get("/api/v1/orders/4711")
        .arg("page", "2")
        .arg("sort", "created_at")
        .arg("fields", "id,total,currency")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0)")
        .header("accept", "application/json, text/plain, */*")
        .header("accept-language", "en-GB,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("authorization", "Bearer 0123456789abcdef0123456789abcdef")
        .header("referer", "https://shop.demo.test/orders?page=1")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-request-id", REQUEST_ID)
        .header("cookie", cookie)
}

/// The frame of a call with this many headers.
///
/// # Errors
/// The call cannot be built.
pub fn with_headers(token: u32, headers: usize) -> Result<Numbered> {
    let framed = |id| {
        let mut request = measured("c");
        for number in request.headers.len()..headers {
            request = request.header(&format!("x-header-{number}"), "a value of some length");
        }
        request.id = id;
        frame(HTTP_REQ_CALL, &request.payload(token))
    };
    Numbered::of(framed(0x0101_0101), &framed(0x0202_0202))
}

/// The frame of PREPARE_CONF for a chain.
pub fn prepare(conf: &[(String, String)]) -> Vec<u8> {
    let conf: Vec<(&str, &str)> = conf.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let key = format!("route#bench#ext-plugin-pre-req#{}", conf.len());
    frame(PREPARE_CONF, &prepare_payload(&key, &conf))
}

/// What an answer has to be.
#[derive(Debug, Clone)]
pub enum Expected {
    /// A Rewrite with the call's id that sets this header to the request's `x-request-id`.
    Header(String),
    /// These bytes: the limit answers without reading the call.
    Canned(Vec<u8>),
}

/// Checks answers: the first one in full, those after it against the first, byte by byte but for the id.
#[derive(Debug)]
pub struct Check {
    expected: Expected,
    known: Option<Numbered>,
}

impl Check {
    /// Nothing checked so far.
    pub fn new(expected: Expected) -> Self {
        Self {
            expected,
            known: None,
        }
    }

    /// Checks the frame that answers the call `id`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn answer(&mut self, frame: &[u8], id: u32) -> Result<()> {
        if self.known.as_ref().is_some_and(|known| known.is(frame, id)) {
            return Ok(());
        }
        match &self.expected {
            Expected::Canned(canned) => {
                ensure!(frame == canned, "the limit sent something else");
                return Ok(());
            }
            Expected::Header(header) => in_full(frame, id, header)?,
        }
        let places = frame.windows(4).enumerate();
        let mut places = places.filter(|(_, four)| *four == id.to_le_bytes());
        if let (Some((id, _)), None) = (places.next(), places.next()) {
            let bytes = frame.to_vec();
            self.known = Some(Numbered { bytes, id });
        }
        Ok(())
    }
}

fn in_full(frame: &[u8], id: u32, header: &str) -> Result<()> {
    let (&[kind, ..], payload) = frame.split_first_chunk::<4>().context("no frame")?;
    if kind != HTTP_REQ_CALL {
        bail!("the answer is a frame of kind {kind}");
    }
    let root = Table::root(payload).context("the answer has no payload")?;
    ensure!(
        root.u32(0) == id,
        "the answer is for call {}, not {id}",
        root.u32(0)
    );
    ensure!(
        root.u8(1) == REWRITE,
        "the answer's action is {}, not a rewrite",
        root.u8(1)
    );
    let action = root.table(2).context("the action is empty")?;
    let wanted = (Some(header.as_bytes()), Some(REQUEST_ID.as_bytes()));
    let headers = action.tables(1).into_iter();
    let mut headers = headers.map(|entry| (entry.bytes(0), entry.bytes(1)));
    ensure!(
        headers.any(|entry| entry == wanted),
        "the answer does not set `{header}`"
    );
    Ok(())
}
