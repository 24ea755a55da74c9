//! Messages that another FlatBuffers writer makes of any values.

use arbitrary::Arbitrary;
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use plugin_runner::protocol::generated::a6::{
    Method, TextEntry, TextEntryArgs, extra_info, httpreq_call, httpresp_call, prepare_conf,
};
use plugin_runner::protocol::message::{
    Entries, ExtraInfo, PrepareConf, RequestCall, ResponseCall,
};

/// Names and values; bytes, as on the real wire.
type Pairs = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// What a gateway sends.
#[derive(Debug, Arbitrary)]
pub enum Message {
    /// PREPARE_CONF
    PrepareConf {
        /// Its key.
        key: Vec<u8>,
        /// Plugins and their confs.
        conf: Pairs,
    },
    /// HTTP_REQ_CALL
    RequestCall {
        /// id, conf_token, method
        numbers: (u32, u32, u8),
        /// Any number of bytes.
        src_ip: Vec<u8>,
        /// Decoded.
        path: Vec<u8>,
        /// Decoded.
        args: Pairs,
        /// As they come.
        headers: Pairs,
    },
    /// HTTP_RESP_CALL
    ResponseCall {
        /// id, conf_token, status
        numbers: (u32, u32, u16),
        /// The upstream's.
        headers: Pairs,
    },
    /// EXTRA_INFO
    ExtraInfo {
        /// The answer.
        result: Option<Vec<u8>>,
    },
}

/// Writes the message and reads it back.
pub fn read_back(message: &Message) {
    let mut builder = FlatBufferBuilder::new();
    match message {
        Message::PrepareConf { key, conf } => {
            let fields = prepare_conf::ReqArgs {
                conf: Some(list(&mut builder, conf)),
                key: Some(text(&mut builder, key)),
            };
            let written = prepare_conf::Req::create(&mut builder, &fields);
            builder.finish(written, None);
            let read = PrepareConf::parse(builder.finished_data()).expect("it is well formed");
            assert_eq!(read.key, key);
            same(read.conf, conf);
        }
        Message::RequestCall { .. } => request_call(&mut builder, message),
        Message::ResponseCall { numbers, headers } => {
            let (id, conf_token, status) = *numbers;
            let headers_written = Some(list(&mut builder, headers));
            let fields = httpresp_call::ReqArgs {
                id,
                status,
                headers: headers_written,
                conf_token,
            };
            let written = httpresp_call::Req::create(&mut builder, &fields);
            builder.finish(written, None);
            let read = ResponseCall::parse(builder.finished_data()).expect("it is well formed");
            assert_eq!((read.id, read.conf_token, read.status), *numbers);
            same(read.headers, headers);
        }
        Message::ExtraInfo { result } => {
            let fields = extra_info::RespArgs {
                result: result.as_ref().map(|bytes| builder.create_vector(bytes)),
            };
            let written = extra_info::Resp::create(&mut builder, &fields);
            builder.finish(written, None);
            let read = ExtraInfo::parse(builder.finished_data()).expect("it is well formed");
            assert_eq!(read.result, result.as_deref());
        }
    }
    super::messages::read(builder.finished_data());
}

fn request_call(builder: &mut FlatBufferBuilder<'_>, message: &Message) {
    let Message::RequestCall {
        numbers,
        src_ip,
        path,
        args,
        headers,
    } = message
    else {
        return;
    };
    let (id, conf_token, method) = *numbers;
    let fields = httpreq_call::ReqArgs {
        id,
        src_ip: Some(builder.create_vector(src_ip)),
        method: Method(method),
        path: Some(text(builder, path)),
        args: Some(list(builder, args)),
        headers: Some(list(builder, headers)),
        conf_token,
    };
    let written = httpreq_call::Req::create(builder, &fields);
    builder.finish(written, None);
    let read = RequestCall::parse(builder.finished_data()).expect("it is well formed");
    assert_eq!((read.id, read.conf_token, read.method), *numbers);
    assert_eq!((read.src_ip, read.path), (&src_ip[..], &path[..]));
    same(read.args, args);
    same(read.headers, headers);
}

/// A string of any bytes: the schema's type says UTF-8, the gateway does not keep to it.
fn text<'a>(builder: &mut FlatBufferBuilder<'a>, bytes: &[u8]) -> WIPOffset<&'a str> {
    WIPOffset::new(builder.create_byte_string(bytes).value())
}

fn list<'a>(
    builder: &mut FlatBufferBuilder<'a>,
    pairs: &Pairs,
) -> WIPOffset<Vector<'a, ForwardsUOffset<TextEntry<'a>>>> {
    let mut written = Vec::new();
    for (name, value) in pairs {
        let name = Some(text(builder, name));
        let value = value.as_ref().map(|value| text(builder, value));
        written.push(TextEntry::create(builder, &TextEntryArgs { name, value }));
    }
    builder.create_vector(&written)
}

fn same(entries: Entries<'_>, pairs: &Pairs) {
    let read = entries.iter().map(|entry| (entry.name, entry.value));
    let wanted = pairs
        .iter()
        .map(|(name, value)| (&name[..], value.as_deref()));
    assert!(read.eq(wanted));
}
