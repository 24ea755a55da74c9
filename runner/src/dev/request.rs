//! One client request on its way through the hooks: what the runner is told about it, and what has become of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Bytes;

use super::headers::Headers;
use super::percent;
use super::reply::Question;
use super::routes::Route;
use super::session::Failure;
use super::upstream::UpstreamReply;
use super::variables;
use super::wire::{self, RequestCall};

/// The state of one client request. Hooks read and change it in turn.
pub(super) struct Exchange {
    pub(super) route: Arc<Route>,
    pub(super) method: String,
    /// The request target as the client wrote it.
    pub(super) target: Vec<u8>,
    pub(super) protocol: &'static str,
    /// The decoded, normalised path.
    pub(super) uri: Vec<u8>,
    /// The current query string; `None` without `?` or when nothing is left of it.
    pub(super) args: Option<Vec<u8>>,
    pub(super) args_changed: bool,
    /// The rewritten target, percent-encoded, with its query; empty until a hook sets a path.
    pub(super) upstream_uri: Vec<u8>,
    /// Lower-case names, client's order, `x-forwarded-*` of the gateway included.
    pub(super) headers: Headers,
    pub(super) upstream_host: Vec<u8>,
    pub(super) body: Bytes,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// The client's address: the peer's, or what a trusted peer says in X-Real-IP.
    pub(super) remote_addr: IpAddr,
    pub(super) request_id: String,
    pub(super) request_length: usize,
    /// Headers that hooks have set for the client's response.
    pub(super) outgoing: Headers,
    /// The upstream's answer while ext-plugin-post-resp runs.
    pub(super) upstream_reply: Option<UpstreamReply>,
    pub(super) response_body_taken: bool,
    /// The number of the last call to the runner, until the hook has been noted.
    pub(super) call: Option<u32>,
}

impl Exchange {
    /// Encodes HTTPReqCall.Req. A rewritten path is told in its encoded form, as the gateway does.
    pub(super) fn request_call(&mut self, id: u32, conf_token: u32) -> Result<Vec<u8>, Failure> {
        let path = self.take_rewritten_args();
        let args = percent::decode_args(self.args.as_deref().unwrap_or_default());
        let method = wire::method(&self.method).ok_or_else(|| {
            Failure::Broken(format!("the protocol has no method {}", self.method))
        })?;
        let call = RequestCall {
            id,
            conf_token,
            method,
            src_ip: &address_bytes(self.remote_addr),
            path: &path,
            args: grouped(
                args.iter()
                    .map(|(name, value)| (&name[..], value.as_deref()))
                    .collect(),
            ),
            headers: grouped(
                self.headers
                    .iter()
                    .map(|(name, value)| self.told(name, value))
                    .collect(),
            ),
        };
        Ok(wire::request_call(&call))
    }

    fn told<'a>(&'a self, name: &'a [u8], value: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        let value = if name == b"host" {
            &self.upstream_host
        } else {
            value
        };
        (name, Some(value))
    }

    fn take_rewritten_args(&mut self) -> Vec<u8> {
        if self.upstream_uri.is_empty() {
            return self.uri.clone();
        }
        let Some(at) = self.upstream_uri.iter().position(|&byte| byte == b'?') else {
            return self.upstream_uri.clone();
        };
        self.set_args(self.upstream_uri[at + 1..].to_vec());
        self.upstream_uri[..at].to_vec()
    }

    /// Replaces the query string; an empty one removes the `?` too.
    pub(super) fn set_args(&mut self, args: Vec<u8>) {
        self.args = (!args.is_empty()).then_some(args);
        self.args_changed = true;
    }

    /// The encoded answer to a question of the runner.
    pub(super) fn answer(&mut self, question: &Question) -> Result<Vec<u8>, Failure> {
        let result = match question {
            Question::Variable(None) => {
                return Err(Failure::Broken("a variable without a name".to_owned()));
            }
            Question::Variable(Some(name)) => variables::value(self, name),
            Question::RequestBody => (!self.body.is_empty()).then(|| self.body.to_vec()),
            Question::ResponseBody => self.take_response_body(),
            Question::Unknown(kind) => {
                let reason =
                    format!("failed to handle RPC_EXTRA_INFO: unsupported info type: {kind}");
                return Err(Failure::Call(reason));
            }
        };
        Ok(wire::extra_info(result.as_deref()))
    }

    /// The upstream's body, once: the gateway reads it from a stream.
    fn take_response_body(&mut self) -> Option<Vec<u8>> {
        let reply = self
            .upstream_reply
            .as_ref()
            .filter(|_| !self.response_body_taken)?;
        self.response_body_taken = true;
        Some(reply.body.to_vec())
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Brings repeats of a name together: the gateway keeps names in a table, so a repeat never stands alone.
fn grouped<'a>(pairs: Vec<(&'a [u8], Option<&'a [u8]>)>) -> Vec<(&'a [u8], Option<&'a [u8]>)> {
    let mut names: Vec<&[u8]> = Vec::new();
    for (name, _) in &pairs {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let of = |name| pairs.iter().copied().filter(move |(had, _)| *had == name);
    names.into_iter().flat_map(of).collect()
}
