//! What the runner writes, read with the generated code.

use arbitrary::Arbitrary;
use plugin_runner::protocol::frame::{decode, kind};
use plugin_runner::protocol::generated::a6::{extra_info, httpreq_call, httpresp_call};
use plugin_runner::protocol::message::{
    Entry, Question, Rewrite, question, response, rewrite, stop,
};

use super::messages::Generated;

/// Names and values; text, as the generated code reads nothing else.
type Pairs = Vec<(String, Option<String>)>;

/// What the runner sends.
#[derive(Debug, Arbitrary)]
pub enum Reply {
    /// A Stop of a request call.
    Stop {
        /// Of the call.
        id: u32,
        /// Any.
        status: u16,
        /// Of the answer.
        headers: Pairs,
        /// Of the answer.
        body: Vec<u8>,
    },
    /// A Rewrite of a request call.
    Rewrite {
        /// Of the call.
        id: u32,
        /// A new path.
        path: Option<String>,
        /// headers, args, resp_headers
        lists: (Pairs, Pairs, Pairs),
        /// A new body.
        body: Option<Vec<u8>>,
    },
    /// The answer to a response call.
    Response {
        /// Of the call.
        id: u32,
        /// A new status.
        status: Option<u16>,
        /// All headers.
        headers: Pairs,
        /// A new body.
        body: Option<Vec<u8>>,
    },
    /// A question for a variable.
    Variable(String),
}

/// Writes the reply behind other bytes and reads it.
pub fn read_back(reply: &Reply) {
    // Of odd length: the payload's alignment is not the buffer's.
    let mut out = b"other".to_vec();
    match reply {
        Reply::Stop {
            id,
            status,
            headers,
            body,
        } => {
            stop(&mut out, *id, *status, entries(headers), body).expect("fuzz input is short");
            let payload = payload(&out, kind::HTTP_REQ_CALL);
            let read = flatbuffers::root::<httpreq_call::Resp<'_>>(payload).expect("verified");
            let action = read.action_as_stop().expect("it is a Stop");
            assert_eq!((read.id(), action.status()), (*id, *status));
            assert_eq!(action.body().map_or(&[][..], |bytes| bytes.bytes()), body);
            same(action.headers(), headers);
        }
        Reply::Rewrite {
            id,
            path,
            lists,
            body,
        } => {
            let (headers, args, resp_headers) = lists;
            let changes = Rewrite {
                path: path.as_ref().map(String::as_bytes),
                headers: entries(headers),
                args: entries(args),
                resp_headers: entries(resp_headers),
                body: body.as_deref(),
            };
            rewrite(&mut out, *id, &changes).expect("fuzz input is short");
            let payload = payload(&out, kind::HTTP_REQ_CALL);
            let read = flatbuffers::root::<httpreq_call::Resp<'_>>(payload).expect("verified");
            let action = read.action_as_rewrite().expect("it is a Rewrite");
            assert_eq!((read.id(), action.path()), (*id, path.as_deref()));
            assert_eq!(action.body().map(|bytes| bytes.bytes()), body.as_deref());
            same(action.headers(), headers);
            same(action.args(), args);
            same(action.resp_headers(), resp_headers);
        }
        Reply::Response {
            id,
            status,
            headers,
            body,
        } => {
            response(&mut out, *id, *status, entries(headers), body.as_deref())
                .expect("fuzz input is short");
            let payload = payload(&out, kind::HTTP_RESP_CALL);
            let read = flatbuffers::root::<httpresp_call::Resp<'_>>(payload).expect("verified");
            assert_eq!((read.id(), read.status()), (*id, status.unwrap_or(0)));
            assert_eq!(read.body().map(|bytes| bytes.bytes()), body.as_deref());
            same(read.headers(), headers);
        }
        Reply::Variable(name) => {
            question(&mut out, &Question::Var(name.as_bytes())).expect("fuzz input is short");
            let payload = payload(&out, kind::EXTRA_INFO);
            let read = flatbuffers::root::<extra_info::Req<'_>>(payload).expect("verified");
            let variable = read.info_as_var().expect("it is a Var");
            assert_eq!(variable.name(), Some(&name[..]));
        }
    }
}

fn payload(out: &[u8], kind: u8) -> &[u8] {
    let (frame, used) = decode(&out[5..]).expect("one whole frame was written");
    assert_eq!((frame.kind, 5 + used), (kind, out.len()));
    frame.payload
}

fn entries(pairs: &Pairs) -> impl ExactSizeIterator<Item = Entry<'_>> + Clone {
    pairs.iter().map(|(name, value)| Entry {
        name: name.as_bytes(),
        value: value.as_ref().map(String::as_bytes),
    })
}

fn same(read: Generated<'_>, pairs: &Pairs) {
    let read = read.into_iter().flatten();
    let read = read.map(|entry| (entry.name().unwrap_or_default(), entry.value()));
    let wanted = pairs
        .iter()
        .map(|(name, value)| (&name[..], value.as_deref()));
    assert!(read.eq(wanted));
}
