//! What any FlatBuffers writer may send reads equal with ours and with the generated code.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::*;
use crate::protocol::generated::a6::{
    Method, TextEntryArgs, extra_info, httpreq_call, httpresp_call, prepare_conf,
};

type List<'a> = WIPOffset<Vector<'a, ForwardsUOffset<TextEntry<'a>>>>;

fn list<'b>(builder: &mut FlatBufferBuilder<'b>, pairs: &[Pair<String>]) -> List<'b> {
    let mut made = Vec::new();
    for (name, value) in pairs {
        // Shared strings, as some writers do.
        let name = Some(builder.create_shared_string(name));
        let value = value
            .as_ref()
            .map(|value| builder.create_shared_string(value));
        made.push(TextEntry::create(builder, &TextEntryArgs { name, value }));
    }
    builder.create_vector(&made)
}

fn wanted(pairs: &[Pair<String>]) -> Vec<Entry<'_>> {
    entries(pairs).collect()
}

proptest! {
    #[test]
    fn request_calls(
        (id, conf_token, method) in any::<(u32, u32, u8)>(),
        src_ip in proptest::option::of(bytes()),
        path in proptest::option::of(text()),
        args in proptest::option::of(texts()),
        headers in proptest::option::of(texts()),
    ) {
        let mut builder = FlatBufferBuilder::new();
        let fields = httpreq_call::ReqArgs {
            id,
            src_ip: src_ip.as_ref().map(|bytes| builder.create_vector(bytes)),
            method: Method(method),
            path: path.as_ref().map(|path| builder.create_string(path)),
            args: args.as_ref().map(|args| list(&mut builder, args)),
            headers: headers.as_ref().map(|headers| list(&mut builder, headers)),
            conf_token,
        };
        let message = httpreq_call::Req::create(&mut builder, &fields);
        builder.finish(message, None);
        let call = RequestCall::parse(builder.finished_data()).unwrap();
        prop_assert_eq!((call.id, call.conf_token, call.method), (id, conf_token, method));
        prop_assert_eq!(call.src_ip, src_ip.unwrap_or_default());
        prop_assert_eq!(call.path, path.as_deref().unwrap_or_default().as_bytes());
        prop_assert_eq!(read(call.args), wanted(args.as_deref().unwrap_or_default()));
        prop_assert_eq!(read(call.headers), wanted(headers.as_deref().unwrap_or_default()));
        read_all(builder.finished_data());
    }

    #[test]
    fn response_calls((id, conf_token, status) in any::<(u32, u32, u16)>(), headers in texts()) {
        let mut builder = FlatBufferBuilder::new();
        let made = Some(list(&mut builder, &headers));
        let fields = httpresp_call::ReqArgs { id, status, headers: made, conf_token };
        let message = httpresp_call::Req::create(&mut builder, &fields);
        builder.finish(message, None);
        let call = ResponseCall::parse(builder.finished_data()).unwrap();
        prop_assert_eq!((call.id, call.conf_token, call.status), (id, conf_token, status));
        prop_assert_eq!(read(call.headers), wanted(&headers));
    }

    #[test]
    fn configurations(key in text(), conf in texts()) {
        let mut builder = FlatBufferBuilder::new();
        let made = Some(list(&mut builder, &conf));
        let fields = prepare_conf::ReqArgs { conf: made, key: Some(builder.create_string(&key)) };
        let message = prepare_conf::Req::create(&mut builder, &fields);
        builder.finish(message, None);
        let parsed = PrepareConf::parse(builder.finished_data()).unwrap();
        prop_assert_eq!(parsed.key, key.as_bytes());
        prop_assert_eq!(read(parsed.conf), wanted(&conf));
    }

    #[test]
    fn answers(result in proptest::option::of(bytes())) {
        let mut builder = FlatBufferBuilder::new();
        let made = result.as_ref().map(|result| builder.create_vector(result));
        let message = extra_info::Resp::create(&mut builder, &extra_info::RespArgs { result: made });
        builder.finish(message, None);
        let info = ExtraInfo::parse(builder.finished_data()).unwrap();
        prop_assert_eq!(info.result, result.as_deref());
    }
}

/// A PrepareConf.Req with the key `k` and one conf entry `n` = `v`: first the tables, then their vtables.
#[rustfmt::skip]
fn by_hand() -> Vec<u8> {
    vec![
        4, 0, 0, 0,                             // 0: root, at 4
        0xcc, 0xff, 0xff, 0xff,                 // 4: vtable at 56
        8, 0, 0, 0,                             // 8: conf, at 16
        38, 0, 0, 0,                            // 12: key, at 50
        1, 0, 0, 0, 4, 0, 0, 0,                 // 16: one element, at 24
        0xd6, 0xff, 0xff, 0xff,                 // 24: vtable at 66
        10, 0, 0, 0, 11, 0, 0, 0,               // 28: name at 38, value at 43
        0, 0,                                   // 36
        1, 0, 0, 0, b'n',                       // 38: no terminator, odd length
        1, 0, 0, 0, b'v',                       // 43
        0, 0,                                   // 48
        1, 0, 0, 0, b'k', 0,                    // 50
        10, 0, 16, 0, 4, 0, 8, 0, 12, 0,        // 56: a third field that no schema has
        8, 0, 12, 0, 4, 0, 8, 0,                // 66
    ]
}

fn reads_as_by_hand(payload: &[u8]) {
    let conf = PrepareConf::parse(payload).unwrap();
    assert_eq!(conf.key, b"k");
    let entry = Entry {
        name: b"n",
        value: Some(b"v"),
    };
    assert_eq!(read(conf.conf), [entry]);
}

#[test]
fn vtables_behind_their_tables_unknown_fields_and_missing_terminators_are_read() {
    reads_as_by_hand(&by_hand());
}

#[test]
fn a_buffer_out_of_alignment_is_read() {
    let mut payload = by_hand();
    payload[0] = 5;
    payload.insert(4, 0xaa);
    reads_as_by_hand(&payload);
}

#[test]
fn a_vtable_that_ends_early_means_absent_fields() {
    let mut payload = by_hand();
    payload[56] = 6;
    payload[66] = 6;
    let conf = PrepareConf::parse(&payload).unwrap();
    assert_eq!(conf.key, b"");
    assert_eq!(
        read(conf.conf),
        [Entry {
            name: b"n",
            value: None
        }]
    );
    payload[66] = 4;
    let conf = PrepareConf::parse(&payload).unwrap();
    assert_eq!(read(conf.conf), [Entry::default()]);
}
