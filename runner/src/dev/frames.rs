//! The gateway's side of the frames, for those who try plugins without HTTP. Decides nothing.

use super::{reply, wire};

pub use reply::{Action, Entry, ResponseChange, Rewrite};

/// A question of the runner in the middle of a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub enum Asked {
    /// A variable of the gateway.
    Variable(Vec<u8>),
    /// The client's body.
    RequestBody,
    /// The upstream's body.
    ResponseBody,
}

/// A request on its way through the gateway.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `GET`
    pub method: String,
    /// Decoded, without the query.
    pub path: Vec<u8>,
    /// Decoded; no value: a flag.
    pub args: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Of the client: 4 or 16 bytes.
    pub address: Vec<u8>,
}

/// The payload of PREPARE_CONF with these plugins and their values.
pub fn prepare_conf(key: &str, plugins: &[(String, String)]) -> Vec<u8> {
    wire::prepare_conf(key, Some(plugins))
}

/// The payload of HTTP_REQ_CALL; `None` for a method that the protocol cannot express.
pub fn request(request: &Request, token: u32) -> Option<Vec<u8>> {
    let call = wire::RequestCall {
        id: 1,
        conf_token: token,
        method: wire::method(&request.method)?,
        src_ip: &request.address,
        path: &request.path,
        args: request
            .args
            .iter()
            .map(|(name, value)| (&name[..], value.as_deref()))
            .collect(),
        headers: request
            .headers
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())))
            .collect(),
    };
    Some(wire::request_call(&call))
}

/// The payload of HTTP_RESP_CALL.
pub fn response(status: u16, headers: &[(String, String)], token: u32) -> Vec<u8> {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    wire::response_call(1, token, status, headers)
}

/// The question in an EXTRA_INFO payload.
pub fn asked(payload: &[u8]) -> Option<Asked> {
    match reply::question(payload).ok()? {
        reply::Question::Variable(name) => name.map(Asked::Variable),
        reply::Question::RequestBody => Some(Asked::RequestBody),
        reply::Question::ResponseBody => Some(Asked::ResponseBody),
        reply::Question::Unknown(_) => None,
    }
}

/// The payload of the answer to a question.
pub fn answer(result: Option<&[u8]>) -> Vec<u8> {
    wire::extra_info(result)
}

/// What the runner decided about a request.
///
/// # Errors
/// The payload cannot be read.
pub fn action(payload: &[u8]) -> Result<Action, String> {
    reply::action(payload).map_err(|error| error.to_string())
}

/// What the runner decided about a response.
///
/// # Errors
/// The payload cannot be read.
pub fn response_change(payload: &[u8]) -> Result<ResponseChange, String> {
    reply::response_change(payload).map_err(|error| error.to_string())
}
