//! What the runner writes passes the official verifier and reads back equal, with the generated code and with ours.

use super::*;
use crate::protocol::flat::Table;
use crate::protocol::frame::{self, MAX_PAYLOAD, kind};
use crate::protocol::generated::a6::{err, extra_info, httpreq_call, httpresp_call, prepare_conf};
use crate::protocol::message::{
    Question, Rewrite, error, prepared, question, response, rewrite, rewrite_headers, root, stop,
    unchanged,
};
use crate::request::service::ErrorCode;

/// What a buffer holds already; of odd length, so that a payload's alignment is not the buffer's.
const BEFORE: &[u8] = b"other";

/// Runs a writer behind other bytes and returns the payload of the one frame it wrote.
fn payload(kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = BEFORE.to_vec();
    write(&mut out);
    let (before, frame) = out.split_at(BEFORE.len());
    assert_eq!(before, BEFORE);
    let (decoded, used) = frame::decode(frame).unwrap();
    assert_eq!((decoded.kind, used), (kind, frame.len()));
    decoded.payload.to_vec()
}

/// The number of the action and its table.
fn action(payload: &[u8]) -> (u8, Table<'_>) {
    let root = root(payload).unwrap();
    let action = root.pointed(2).unwrap();
    (root.u8(1).unwrap(), Table::at(payload, action).unwrap())
}

fn read_list<'f>(payload: &'f [u8], table: &Table<'f>, slot: usize) -> Vec<Entry<'f>> {
    read(Entries::parse(payload, table, slot, "list").unwrap())
}

proptest! {
    #[test]
    fn stops(
        (id, status) in any::<(u32, u16)>(),
        headers in texts(),
        body in bytes(),
    ) {
        let payload = payload(kind::HTTP_REQ_CALL, |out| {
            stop(out, id, status, entries(&headers), &body).unwrap();
        });
        let reply = flatbuffers::root::<httpreq_call::Resp<'_>>(&payload).unwrap();
        let action = reply.action_as_stop().unwrap();
        prop_assert_eq!((reply.id(), action.status()), (id, status));
        prop_assert_eq!(action.body().map_or(&[][..], |body| body.bytes()), body);
        prop_assert_eq!(oracle(action.headers()), entries(&headers).collect::<Vec<_>>());
    }

    #[test]
    fn rewrites(
        id in any::<u32>(),
        path in proptest::option::of(text()),
        (headers, args, resp_headers) in (texts(), texts(), texts()),
        body in proptest::option::of(bytes()),
    ) {
        let payload = payload(kind::HTTP_REQ_CALL, |out| {
            let whole = Rewrite {
                path: path.as_ref().map(String::as_bytes),
                headers: entries(&headers),
                // A list from two sources, which does not know its length.
                args: entries(&args).chain(entries(&headers)).filter(|entry| entry.value.is_some()),
                resp_headers: entries(&resp_headers),
                body: body.as_deref(),
            };
            rewrite(out, id, &whole).unwrap();
        });
        let reply = flatbuffers::root::<httpreq_call::Resp<'_>>(&payload).unwrap();
        let action = reply.action_as_rewrite().unwrap();
        let both = entries(&args).chain(entries(&headers)).filter(|entry| entry.value.is_some());
        prop_assert_eq!(reply.id(), id);
        prop_assert_eq!(action.path(), path.as_deref());
        prop_assert_eq!(oracle(action.headers()), entries(&headers).collect::<Vec<_>>());
        prop_assert_eq!(oracle(action.args()), both.collect::<Vec<_>>());
        prop_assert_eq!(oracle(action.resp_headers()), entries(&resp_headers).collect::<Vec<_>>());
        prop_assert_eq!(action.body().map(|body| body.bytes()), body.as_deref());
    }

    #[test]
    fn headers_alone_are_written_like_any_rewrite(id in any::<u32>(), headers in pairs()) {
        prop_assume!(!headers.is_empty());
        let whole = payload(kind::HTTP_REQ_CALL, |out| {
            let nothing = std::iter::empty::<Entry<'_>>;
            let whole = Rewrite {
                path: None,
                headers: entries(&headers),
                args: nothing(),
                resp_headers: nothing(),
                body: None,
            };
            rewrite(out, id, &whole).unwrap();
        });
        let alone = payload(kind::HTTP_REQ_CALL, |out| {
            rewrite_headers(out, id, entries(&headers)).unwrap();
        });
        prop_assert_eq!(alone, whole);
    }

    #[test]
    fn responses(
        id in any::<u32>(),
        status in proptest::option::of(any::<u16>()),
        headers in texts(),
        body in proptest::option::of(bytes()),
    ) {
        let payload = payload(kind::HTTP_RESP_CALL, |out| {
            response(out, id, status, entries(&headers), body.as_deref()).unwrap();
        });
        let reply = flatbuffers::root::<httpresp_call::Resp<'_>>(&payload).unwrap();
        prop_assert_eq!((reply.id(), reply.status()), (id, status.unwrap_or(0)));
        prop_assert_eq!(oracle(reply.headers()), entries(&headers).collect::<Vec<_>>());
        prop_assert_eq!(reply.body().map(|body| body.bytes()), body.as_deref());
    }

    #[test]
    fn small_replies(number in any::<u32>()) {
        let id = payload(kind::HTTP_REQ_CALL, |out| unchanged(out, number));
        let id = flatbuffers::root::<httpreq_call::Resp<'_>>(&id).unwrap();
        prop_assert_eq!((id.id(), id.action_type().0, id.action().is_none()), (number, 0, true));
        let token = payload(kind::PREPARE_CONF, |out| prepared(out, number));
        let token = flatbuffers::root::<prepare_conf::Resp<'_>>(&token).unwrap();
        prop_assert_eq!(token.conf_token(), number);
    }

    #[test]
    fn questions_for_variables(name in text()) {
        let payload = payload(kind::EXTRA_INFO, |out| {
            question(out, &Question::Var(name.as_bytes())).unwrap();
        });
        let asked = flatbuffers::root::<extra_info::Req<'_>>(&payload).unwrap();
        prop_assert_eq!(asked.info_as_var().unwrap().name(), Some(&*name));
    }

    #[test]
    fn bytes_that_are_no_text(
        path in bytes(),
        (headers, args, resp_headers) in (pairs(), pairs(), pairs()),
        body in bytes(),
    ) {
        let payload = payload(kind::HTTP_REQ_CALL, |out| {
            let whole = Rewrite {
                path: Some(&path),
                headers: entries(&headers),
                args: entries(&args),
                resp_headers: entries(&resp_headers),
                body: Some(&body),
            };
            rewrite(out, 5, &whole).unwrap();
        });
        let (number, action) = action(&payload);
        prop_assert_eq!(number, 2);
        prop_assert_eq!(action.bytes(0).unwrap(), Some(&*path));
        prop_assert_eq!(action.bytes(4).unwrap(), Some(&*body));
        for (slot, pairs) in [(1, &headers), (2, &args), (3, &resp_headers)] {
            prop_assert_eq!(read_list(&payload, &action, slot), entries(pairs).collect::<Vec<_>>());
        }
    }
}

#[test]
fn questions_for_bodies_carry_an_empty_table() {
    let asked = payload(kind::EXTRA_INFO, |out| {
        question(out, &Question::RequestBody).unwrap()
    });
    let asked = flatbuffers::root::<extra_info::Req<'_>>(&asked).unwrap();
    assert!(asked.info_as_req_body().is_some());
    let asked = payload(kind::EXTRA_INFO, |out| {
        question(out, &Question::ResponseBody).unwrap()
    });
    let asked = flatbuffers::root::<extra_info::Req<'_>>(&asked).unwrap();
    assert!(asked.info_as_resp_body().is_some());
}

#[test]
fn errors_carry_the_protocols_numbers() {
    for (code, number) in [
        (ErrorCode::BadRequest, err::Code::BAD_REQUEST),
        (
            ErrorCode::ServiceUnavailable,
            err::Code::SERVICE_UNAVAILABLE,
        ),
        (
            ErrorCode::ConfTokenNotFound,
            err::Code::CONF_TOKEN_NOT_FOUND,
        ),
    ] {
        let payload = payload(kind::ERROR, |out| error(out, code));
        let reply = flatbuffers::root::<err::Resp<'_>>(&payload).unwrap();
        assert_eq!(reply.code(), number);
    }
}

#[test]
fn empty_lists_and_an_empty_body_of_a_stop_stay_out_of_the_frame() {
    let payload = payload(kind::HTTP_REQ_CALL, |out| {
        stop(out, 1, 204, [], b"").unwrap()
    });
    let reply = flatbuffers::root::<httpreq_call::Resp<'_>>(&payload).unwrap();
    let action = reply.action_as_stop().unwrap();
    assert!(action.headers().is_none() && action.body().is_none());
}

/// Claims more entries than it gives.
#[derive(Clone)]
struct Boaster(usize);

impl Iterator for Boaster {
    type Item = Entry<'static>;

    fn next(&mut self) -> Option<Entry<'static>> {
        self.0 = self.0.checked_sub(1)?;
        Some(Entry {
            name: b"n",
            value: None,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (9, Some(9))
    }
}

#[test]
fn a_list_shorter_than_it_claims_is_written_with_its_real_length() {
    let payload = payload(kind::HTTP_RESP_CALL, |out| {
        response(out, 1, None, Boaster(2), None).unwrap();
    });
    let reply = flatbuffers::root::<httpresp_call::Resp<'_>>(&payload).unwrap();
    assert_eq!(reply.headers().unwrap().len(), 2);
}

#[test]
fn a_reply_too_long_for_a_frame_is_refused_and_leaves_the_buffer_as_it_was() {
    let mut out = BEFORE.to_vec();
    stop(&mut out, 1, 200, [], b"").unwrap();
    // The body's length field and nothing else is added to an empty stop, as its length is a multiple of four.
    let fits = MAX_PAYLOAD - (out.len() - BEFORE.len() - frame::HEADER) - 4 - 3;
    assert_eq!(fits % 4, 0);
    out.truncate(BEFORE.len());
    let body = vec![1; fits + 1];
    stop(&mut out, 1, 200, [], &body[..fits]).unwrap();
    assert_eq!(out.len() - BEFORE.len() - frame::HEADER, MAX_PAYLOAD - 3);
    out.truncate(BEFORE.len());
    assert!(stop(&mut out, 1, 200, [], &body).is_err());
    let huge = vec![1; MAX_PAYLOAD + 1];
    assert!(stop(&mut out, 1, 200, [], &huge).is_err());
    assert!(response(&mut out, 1, None, [], Some(&body[..])).is_ok());
    out.truncate(BEFORE.len());
    assert!(response(&mut out, 1, None, [], Some(&huge)).is_err());
    assert!(question(&mut out, &Question::Var(&huge)).is_err());
    let value = Entry {
        name: b"x",
        value: Some(&body),
    };
    assert!(response(&mut out, 1, None, [value, value], None).is_err());
    assert_eq!(out, BEFORE);
}
