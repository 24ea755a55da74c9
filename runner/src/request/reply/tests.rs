//! What the gateway gets, for calls that plugins have changed through the same checks as always.

use std::time::Duration;

use flatbuffers::FlatBufferBuilder;
use plugin_api::abi::numbers::{edit, map, number, text};

use super::*;
use crate::protocol::frame;
use crate::protocol::generated::a6::{self, httpreq_call, httpresp_call};
use crate::request::answers::Answers;
use crate::request::bodies::{Bodies, LARGE};
use crate::request::edit as edits;
use crate::request::index::Index;
use crate::request::moment::Moment;
use crate::request::overlay::Base;
use crate::request::service::{Ask, AskError};

type Pairs<'a> = &'a [(&'a str, Option<&'a str>)];

struct Nobody;

impl Ask for Nobody {
    fn ask(&mut self, _: &[u8]) -> Result<crate::protocol::payload::Payload, AskError> {
        Err(AskError::Closed)
    }
}

fn list<'b>(
    builder: &mut FlatBufferBuilder<'b>,
    pairs: Pairs<'_>,
) -> flatbuffers::WIPOffset<flatbuffers::Vector<'b, flatbuffers::ForwardsUOffset<a6::TextEntry<'b>>>>
{
    let mut entries = Vec::new();
    for (name, value) in pairs {
        let name = Some(builder.create_string(name));
        let value = value.map(|value| builder.create_string(value));
        entries.push(a6::TextEntry::create(
            builder,
            &a6::TextEntryArgs { name, value },
        ));
    }
    builder.create_vector(&entries)
}

fn request(args: Pairs<'_>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let args = Some(list(&mut builder, args));
    let fields = httpreq_call::ReqArgs {
        args,
        ..Default::default()
    };
    let root = httpreq_call::Req::create(&mut builder, &fields);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn response(headers: Pairs<'_>) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let headers = Some(list(&mut builder, headers));
    let fields = httpresp_call::ReqArgs {
        headers,
        status: 200,
        ..Default::default()
    };
    let root = httpresp_call::Req::create(&mut builder, &fields);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

/// Changes a map as a plugin does.
fn change(state: &mut State<'_>, map: u32, edit: u32, name: &str, value: &str) {
    edits::map(state, map, edit, name.as_bytes(), value.as_bytes()).unwrap();
}

/// The payload of the reply to a call that plugins have changed.
fn reply(message: Message<'_>, plugins: impl FnOnce(&mut State<'_>)) -> Vec<u8> {
    let (arena, answers, mut nobody) = (Bump::new(), Answers::default(), Nobody);
    let deadline = Moment::now() + Duration::from_secs(1);
    let lists = message.lists(&arena);
    let opened = (message, &lists);
    let bodies = Bodies::default();
    let memory = (&arena, &bodies);
    let mut state = State::new(memory, opened, "route#1", deadline, &answers, &mut nobody);
    plugins(&mut state);
    let mut out = Vec::new();
    write(&state, &mut out).unwrap();
    frame::decode(&out).unwrap().0.payload.to_vec()
}

fn sent_args(
    args: Pairs<'_>,
    plugins: impl FnOnce(&mut State<'_>),
) -> Vec<(String, Option<String>)> {
    let payload = request(args);
    let message = Message::Request(RequestCall::parse(&payload).unwrap());
    let payload = reply(message, plugins);
    let reply = flatbuffers::root::<httpreq_call::Resp<'_>>(&payload).unwrap();
    let rewrite = reply.action_as_rewrite().unwrap();
    read(rewrite.args())
}

fn sent_headers(
    headers: Pairs<'_>,
    plugins: impl FnOnce(&mut State<'_>),
) -> Vec<(String, Option<String>)> {
    let payload = response(headers);
    let message = Message::Response(ResponseCall::parse(&payload).unwrap());
    let payload = reply(message, plugins);
    let reply = flatbuffers::root::<httpresp_call::Resp<'_>>(&payload).unwrap();
    read(reply.headers())
}

fn read<'a>(
    entries: Option<flatbuffers::Vector<'a, flatbuffers::ForwardsUOffset<a6::TextEntry<'a>>>>,
) -> Vec<(String, Option<String>)> {
    let entries = entries.into_iter().flatten();
    entries
        .map(|entry| {
            let name = entry.name().unwrap().to_owned();
            (name, entry.value().map(str::to_owned))
        })
        .collect()
}

fn owned(pairs: Pairs<'_>) -> Vec<(String, Option<String>)> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
        .collect()
}

fn new_path(state: &mut State<'_>) {
    edits::set_text(state, text::PATH, b"/new").unwrap();
}

#[test]
fn a_new_path_takes_the_clients_args_along_but_for_names_that_came_as_a_flag() {
    let args: Pairs<'_> = &[
        ("a", Some("1")),
        ("flag", None),
        ("both", Some("2")),
        ("a", Some("3")),
        ("both", None),
        ("empty", Some("")),
    ];
    let expected: Pairs<'_> = &[("a", Some("1")), ("a", Some("3")), ("empty", Some(""))];
    assert_eq!(sent_args(args, new_path), owned(expected));
    let flags: Pairs<'_> = &[("flag", None), ("other", None)];
    let nobody: Pairs<'_> = &[("plugin-runner-keeps-flags", None)];
    assert_eq!(sent_args(flags, new_path), owned(nobody));
    let changed = sent_args(flags, |state| {
        new_path(state);
        change(state, map::ARGS, edit::ADD, "flag", "1");
    });
    let both: Pairs<'_> = &[("flag", Some("")), ("flag", Some("1"))];
    assert_eq!(changed, owned(both));
}

#[test]
fn a_client_with_thousands_of_args_does_not_hold_up_the_reply() {
    let names: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let args: Vec<(&str, Option<&str>)> = names.iter().map(|name| (&**name, None)).collect();
    let payload = request(&args);
    let message = Message::Request(RequestCall::parse(&payload).unwrap());
    let started = Moment::now();
    reply(message, new_path);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn thousands_of_values_of_one_name_are_walked_over_once() {
    let args = vec![("a", Some("1")); 20_000];
    let payload = request(&args);
    let call = RequestCall::parse(&payload).unwrap();
    let arena = Bump::new();
    let base = Base::new(Index::new(call.args, "args", &arena));
    let map = Overlay::new(&base, false);
    let started = Moment::now();
    let values = (0..).take_while(|nth| map.get(b"a", *nth).is_some());
    assert_eq!(values.count(), 20_000);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn values_are_found_in_any_order_of_asking() {
    let args: Pairs<'_> = &[
        ("a", Some("1")),
        ("b", Some("2")),
        ("a", Some("3")),
        ("b", Some("4")),
        ("a", None),
    ];
    let payload = request(args);
    let call = RequestCall::parse(&payload).unwrap();
    let arena = Bump::new();
    let base = Base::new(Index::new(call.args, "args", &arena));
    let map = Overlay::new(&base, false);
    let get = |name: &str, nth| map.get(name.as_bytes(), nth);
    for _ in 0..2 {
        assert_eq!(get("a", 2), Some(None));
        assert_eq!(get("b", 1), Some(Some(&b"4"[..])));
        assert_eq!(get("a", 1), Some(Some(&b"3"[..])));
        assert_eq!(get("a", 2), Some(None));
        assert_eq!(get("a", 3), None);
        assert_eq!(get("b", 2), None);
        assert_eq!(get("b", 0), Some(Some(&b"2"[..])));
    }
}

#[test]
fn headers_that_any_connection_header_lists_are_not_passed_on() {
    let headers: Pairs<'_> = &[
        ("Connection", Some("close, X-One")),
        ("connection", Some("x-two")),
        ("X-One", Some("1")),
        ("X-Two", Some("2")),
        ("X-Three", Some("3")),
    ];
    let expected: Pairs<'_> = &[("X-Three", Some("3"))];
    assert_eq!(sent_headers(headers, |_| ()), owned(expected));
    let removed = |state: &mut State<'_>| {
        change(state, map::RESPONSE_HEADERS, edit::REMOVE, "Connection", "");
    };
    assert_eq!(sent_headers(headers, removed), owned(expected));
}

#[test]
fn a_reply_never_lets_the_gateway_send_headers_that_were_removed() {
    let stand_in: Pairs<'_> = &[("Content-Type", Some("text/plain"))];
    let secret: Pairs<'_> = &[("X-Secret", Some("1"))];
    let removed = sent_headers(secret, |state| {
        change(state, map::RESPONSE_HEADERS, edit::REMOVE, "x-secret", "");
    });
    assert_eq!(removed, owned(stand_in));
    let answered = sent_headers(secret, |state| {
        edits::set_number(state, number::ANSWER_STATUS, 403).unwrap();
        edits::set_text(state, text::ANSWER_BODY, b"no").unwrap();
    });
    assert_eq!(answered, owned(stand_in));
    let with_header = sent_headers(secret, |state| {
        edits::set_number(state, number::ANSWER_STATUS, 403).unwrap();
        change(state, map::ANSWER_HEADERS, edit::ADD, "X-Why", "no");
    });
    let why: Pairs<'_> = &[("X-Why", Some("no"))];
    assert_eq!(with_header, owned(why));
}

/// The reply in two parts, as a long one goes out, must be what [`write`] makes of it.
#[track_caller]
fn in_parts(message: Message<'_>, plugins: impl FnOnce(&mut State<'_>)) {
    let (arena, answers, mut nobody) = (Bump::new(), Answers::default(), Nobody);
    let bodies = Bodies::default();
    let memory = (&arena, &bodies);
    let deadline = Moment::now() + Duration::from_secs(1);
    let lists = message.lists(&arena);
    let opened = (message, &lists);
    let mut state = State::new(memory, opened, "route#1", deadline, &answers, &mut nobody);
    plugins(&mut state);
    let (mut whole, mut head) = (b"before".to_vec(), b"before".to_vec());
    let written = write(&state, &mut whole);
    let position = write_head(&mut state, &mut head);
    drop(state);
    assert_eq!(position.as_ref().err(), written.as_ref().err());
    if let Ok(position) = position {
        let reply = bodies.into_reply(position.expect("a large body"), &mut head);
        head = reply.map_or(head, |reply| reply.bytes[reply.from..].to_vec());
    }
    assert!(head == whole);
}

#[test]
fn a_reply_in_parts_is_the_same_frame() {
    let payload = request(&[("a", Some("1"))]);
    let call = Message::Request(RequestCall::parse(&payload).unwrap());
    let fits = frame::MAX_PAYLOAD - 200;
    for len in (LARGE..LARGE + 5).chain([fits, frame::MAX_PAYLOAD - 3]) {
        let body = vec![b'b'; len];
        in_parts(call, |state| {
            edits::set_text(state, text::BODY, &body).unwrap();
            change(state, map::REQUEST_HEADERS, edit::SET, "x-new", "1");
        });
        in_parts(call, |state| {
            edits::set_number(state, number::ANSWER_STATUS, 200).unwrap();
            edits::set_text(state, text::ANSWER_BODY, &body).unwrap();
        });
    }
}
