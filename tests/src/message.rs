//! The messages between gateway and runner as a test sees them. Requests are written by the generated code, replies
//! are read by [`crate::flat`]: nothing of the runner's own codec.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use plugin_runner::protocol::generated::a6;

use crate::flat::Table;

/// First byte of an ERROR frame.
pub const ERROR: u8 = 0;
/// First byte of a PREPARE_CONF frame.
pub const PREPARE_CONF: u8 = 1;
/// First byte of an HTTP_REQ_CALL frame.
pub const HTTP_REQ_CALL: u8 = 2;
/// First byte of an EXTRA_INFO frame.
pub const EXTRA_INFO: u8 = 3;
/// First byte of an HTTP_RESP_CALL frame.
pub const HTTP_RESP_CALL: u8 = 4;

/// Names with values; a value may be absent.
pub type Entries = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Entries that all have a value.
pub fn entries(list: &[(&str, &str)]) -> Entries {
    let list = list.iter();
    list.map(|(name, value)| (name.as_bytes().to_vec(), Some(value.as_bytes().to_vec())))
        .collect()
}

/// A request on its way to the upstream.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The gateway's number of the call.
    pub id: u32,
    /// The client's address: 4 or 16 bytes.
    pub address: Vec<u8>,
    /// Number of the method; 0 is GET.
    pub method: u8,
    /// The path, decoded.
    pub path: Vec<u8>,
    /// Arguments of the query.
    pub args: Entries,
    /// Headers.
    pub headers: Entries,
}

impl Request {
    /// A GET of a path from 127.0.0.1.
    pub fn get(path: &str) -> Self {
        Self {
            id: 1,
            address: vec![127, 0, 0, 1],
            path: path.into(),
            headers: entries(&[("host", "demo.test")]),
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.extend(entries(&[(name, value)]));
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.extend(entries(&[(name, value)]));
        self
    }

    /// The payload of HTTP_REQ_CALL.
    pub fn payload(&self, token: u32) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let fields = a6::httpreq_call::ReqArgs {
            id: self.id,
            src_ip: Some(builder.create_vector(&self.address)),
            method: a6::Method(self.method),
            path: Some(byte_string(&mut builder, &self.path)),
            args: Some(text_entries(&mut builder, &self.args)),
            headers: Some(text_entries(&mut builder, &self.headers)),
            conf_token: token,
        };
        let root = a6::httpreq_call::Req::create(&mut builder, &fields);
        finish(builder, root)
    }
}

/// A response on its way to the client.
#[derive(Debug, Clone)]
pub struct Response {
    /// The gateway's number of the call.
    pub id: u32,
    /// The upstream's status.
    pub status: u16,
    /// The upstream's headers.
    pub headers: Entries,
}

impl Response {
    /// A response with this status and these headers.
    pub fn new(status: u16, headers: &[(&str, &str)]) -> Self {
        Self {
            id: 2,
            status,
            headers: entries(headers),
        }
    }

    /// The payload of HTTP_RESP_CALL.
    pub fn payload(&self, token: u32) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let fields = a6::httpresp_call::ReqArgs {
            id: self.id,
            status: self.status,
            headers: Some(text_entries(&mut builder, &self.headers)),
            conf_token: token,
        };
        let root = a6::httpresp_call::Req::create(&mut builder, &fields);
        finish(builder, root)
    }
}

/// The payload of PREPARE_CONF.
pub fn prepare_payload(key: &str, conf: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let fields = a6::prepare_conf::ReqArgs {
        conf: Some(text_entries(&mut builder, &entries(conf))),
        key: Some(byte_string(&mut builder, key.as_bytes())),
    };
    let root = a6::prepare_conf::Req::create(&mut builder, &fields);
    finish(builder, root)
}

/// The payload that answers EXTRA_INFO; `None` is no such variable, or no body.
pub fn answer_payload(result: Option<&[u8]>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let result = result.map(|result| builder.create_vector(result));
    let root = a6::extra_info::Resp::create(&mut builder, &a6::extra_info::RespArgs { result });
    finish(builder, root)
}

fn finish<T>(mut builder: FlatBufferBuilder<'_>, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

fn byte_string<'a>(builder: &mut FlatBufferBuilder<'a>, bytes: &[u8]) -> WIPOffset<&'a str> {
    let offset = builder.create_byte_string(bytes).value();
    WIPOffset::new(offset)
}

type TextEntries<'a> = WIPOffset<Vector<'a, ForwardsUOffset<a6::TextEntry<'a>>>>;

fn text_entries<'a>(builder: &mut FlatBufferBuilder<'a>, entries: &Entries) -> TextEntries<'a> {
    let mut tables = Vec::new();
    for (name, value) in entries {
        let fields = a6::TextEntryArgs {
            name: Some(byte_string(builder, name)),
            value: value.as_ref().map(|value| byte_string(builder, value)),
        };
        tables.push(a6::TextEntry::create(builder, &fields));
    }
    builder.create_vector(&tables)
}

/// What the runner asks in the middle of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// A variable of the gateway.
    Variable(String),
    /// The client's body.
    RequestBody,
    /// The upstream's body.
    ResponseBody,
}

impl Question {
    /// Reads the payload of an EXTRA_INFO frame.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let root = Table::root(payload)?;
        match root.u8(0) {
            1 => {
                let name = root.table(1)?.bytes(0).unwrap_or_default();
                Some(Self::Variable(String::from_utf8_lossy(name).into_owned()))
            }
            2 => Some(Self::RequestBody),
            3 => Some(Self::ResponseBody),
            _ => None,
        }
    }
}

/// Codes of an ERROR frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The frame could not be read.
    BadRequest,
    /// The gateway answers 503.
    ServiceUnavailable,
    /// The gateway prepares again.
    ConfTokenNotFound,
    /// Anything else.
    Unknown(u8),
}

impl Code {
    fn read(number: u8) -> Self {
        match number {
            0 => Self::BadRequest,
            1 => Self::ServiceUnavailable,
            2 => Self::ConfTokenNotFound,
            other => Self::Unknown(other),
        }
    }
}

/// What the runner decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Goes on as it is.
    Nothing,
    /// An answer in the upstream's place.
    Stop(Answer),
    /// A changed request.
    Rewrite(Rewrite),
    /// A response: what the client gets of the upstream's.
    Response(Answer),
    /// An ERROR frame.
    Error(Code),
}

/// Status, headers and body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0 is the gateway's default, or the upstream's.
    pub status: u16,
    /// The headers.
    pub headers: Entries,
    /// The body; empty and absent mean the same.
    pub body: Vec<u8>,
}

/// What is changed of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The path; empty is unchanged.
    pub path: Vec<u8>,
    /// Headers to set or, without a value, delete.
    pub headers: Entries,
    /// Arguments to set or, without a value, delete.
    pub args: Entries,
    /// Headers to add to the response.
    pub response_headers: Entries,
    /// The body; empty is unchanged.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        value_of(&self.headers, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The first value of a name, whatever its case.
pub fn value_of(entries: &Entries, name: &str) -> Option<String> {
    let mut entries = entries.iter();
    let (_, value) = entries.find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))?;
    Some(String::from_utf8_lossy(value.as_ref()?).into_owned())
}

impl Reply {
    /// Reads a reply.
    ///
    /// # Panics
    /// It is none, or a header has no name (a Lua error in the gateway).
    #[track_caller]
    pub fn read(kind: u8, payload: &[u8]) -> Self {
        Self::try_read(kind, payload).expect("a reply that the gateway can read")
    }

    /// Reads a reply; `None` when a gateway could not.
    pub fn try_read(kind: u8, payload: &[u8]) -> Option<Self> {
        let root = Table::root(payload)?;
        match (kind, root.u8(1)) {
            (ERROR, _) => Some(Self::Error(Code::read(root.u8(0)))),
            (HTTP_REQ_CALL, 0) => Some(Self::Nothing),
            (HTTP_REQ_CALL, 1) => Some(Self::Stop(read_answer(&root.table(2)?, 0)?)),
            (HTTP_REQ_CALL, 2) => Some(Self::Rewrite(read_rewrite(&root.table(2)?)?)),
            (HTTP_RESP_CALL, _) => Some(Self::Response(read_answer(&root, 1)?)),
            _ => None,
        }
    }

    /// The answer in the upstream's place, or the changed response.
    ///
    /// # Panics
    /// It is something else.
    #[track_caller]
    pub fn answer(self) -> Answer {
        match self {
            Self::Stop(answer) | Self::Response(answer) => answer,
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    /// The changed request.
    ///
    /// # Panics
    /// It is something else.
    #[track_caller]
    pub fn rewrite(self) -> Rewrite {
        match self {
            Self::Rewrite(rewrite) => rewrite,
            other => panic!("expected a changed request, got {other:?}"),
        }
    }

    /// The body of an answer, as text.
    ///
    /// # Panics
    /// It is something else.
    #[track_caller]
    pub fn text(self) -> String {
        self.answer().text()
    }
}

/// `first` is the number of the field `status`.
fn read_answer(table: &Table<'_>, first: usize) -> Option<Answer> {
    Some(Answer {
        status: table.u16(first),
        headers: read_entries(table, first + 1)?,
        body: table.bytes(first + 2).unwrap_or_default().to_vec(),
    })
}

fn read_rewrite(table: &Table<'_>) -> Option<Rewrite> {
    Some(Rewrite {
        path: table.bytes(0).unwrap_or_default().to_vec(),
        headers: read_entries(table, 1)?,
        args: read_entries(table, 2)?,
        response_headers: read_entries(table, 3)?,
        body: table.bytes(4).unwrap_or_default().to_vec(),
    })
}

/// Reads a vector of names with values; `None` when one has no name.
pub fn read_entries(table: &Table<'_>, number: usize) -> Option<Entries> {
    let entries = table.tables(number).into_iter();
    let entry =
        |entry: Table<'_>| Some((entry.bytes(0)?.to_vec(), entry.bytes(1).map(<[u8]>::to_vec)));
    entries.map(entry).collect()
}

/// The token in the payload of a PREPARE_CONF reply.
pub fn read_token(payload: &[u8]) -> Option<u32> {
    Some(Table::root(payload)?.u32(0))
}

/// The number of the call that a reply answers.
pub fn read_id(payload: &[u8]) -> u32 {
    Table::root(payload).map_or(0, |root| root.u32(0))
}
