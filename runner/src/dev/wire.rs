//! Writes the gateway's frames with the generated builders. Text is bytes: nothing is checked for UTF-8.

use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};

use crate::protocol::generated::a6::{self, TextEntry, TextEntryArgs};

pub(super) const ERROR: u8 = 0;
pub(super) const PREPARE_CONF: u8 = 1;
pub(super) const HTTP_REQ_CALL: u8 = 2;
pub(super) const EXTRA_INFO: u8 = 3;
pub(super) const HTTP_RESP_CALL: u8 = 4;

/// The largest payload: the length field has 24 bits.
pub(super) const MAX_PAYLOAD: usize = (1 << 24) - 1;

type Builder = FlatBufferBuilder<'static>;
type Entries = WIPOffset<Vector<'static, ForwardsUOffset<TextEntry<'static>>>>;

/// A request call before it is encoded.
pub(super) struct RequestCall<'a> {
    pub(super) id: u32,
    pub(super) conf_token: u32,
    pub(super) method: a6::Method,
    pub(super) src_ip: &'a [u8],
    pub(super) path: &'a [u8],
    pub(super) args: Vec<(&'a [u8], Option<&'a [u8]>)>,
    pub(super) headers: Vec<(&'a [u8], Option<&'a [u8]>)>,
}

/// Encodes PrepareConf.Req; `conf` is absent on the wire if the route has none.
pub(super) fn prepare_conf(key: &str, conf: Option<&[(String, String)]>) -> Vec<u8> {
    let mut builder = Builder::new();
    let key = text(&mut builder, key.as_bytes());
    let conf = conf.map(|conf| {
        let pairs = conf
            .iter()
            .map(|(name, value)| (name.as_bytes(), Some(value.as_bytes())));
        entries(&mut builder, pairs)
    });
    let args = a6::prepare_conf::ReqArgs {
        conf,
        key: Some(key),
    };
    let root = a6::prepare_conf::Req::create(&mut builder, &args);
    finish(builder, root)
}

/// Encodes HTTPReqCall.Req.
pub(super) fn request_call(call: &RequestCall<'_>) -> Vec<u8> {
    let mut builder = Builder::new();
    let args = a6::httpreq_call::ReqArgs {
        path: Some(text(&mut builder, call.path)),
        src_ip: Some(builder.create_vector(call.src_ip)),
        args: Some(entries(&mut builder, call.args.iter().copied())),
        headers: Some(entries(&mut builder, call.headers.iter().copied())),
        id: call.id,
        method: call.method,
        conf_token: call.conf_token,
    };
    let root = a6::httpreq_call::Req::create(&mut builder, &args);
    finish(builder, root)
}

/// Encodes HTTPRespCall.Req.
pub(super) fn response_call<'a>(
    id: u32,
    conf_token: u32,
    status: u16,
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<u8> {
    let mut builder = Builder::new();
    let headers = Some(entries(
        &mut builder,
        headers.map(|(name, value)| (name, Some(value))),
    ));
    let args = a6::httpresp_call::ReqArgs {
        id,
        status,
        headers,
        conf_token,
    };
    let root = a6::httpresp_call::Req::create(&mut builder, &args);
    finish(builder, root)
}

/// Encodes ExtraInfo.Resp; `None` is "no such thing", empty bytes are an empty value.
pub(super) fn extra_info(result: Option<&[u8]>) -> Vec<u8> {
    let mut builder = Builder::new();
    let result = result.map(|result| builder.create_vector(result));
    let root = a6::extra_info::Resp::create(&mut builder, &a6::extra_info::RespArgs { result });
    finish(builder, root)
}

fn text(builder: &mut Builder, bytes: &[u8]) -> WIPOffset<&'static str> {
    // On the wire a string is its bytes; only the type of the offset says `str`.
    WIPOffset::new(builder.create_byte_string(bytes).value())
}

fn entries<'a>(
    builder: &mut Builder,
    pairs: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Entries {
    let offsets: Vec<_> = pairs
        .map(|(name, value)| {
            let name = Some(text(builder, name));
            let value = value.map(|value| text(builder, value));
            TextEntry::create(builder, &TextEntryArgs { name, value })
        })
        .collect();
    builder.create_vector(&offsets)
}

fn finish<T>(mut builder: Builder, root: WIPOffset<T>) -> Vec<u8> {
    builder.finish_minimal(root);
    builder.finished_data().to_vec()
}

/// The number of a method in the protocol; `None` for one that the gateway cannot express.
pub(super) fn method(name: &str) -> Option<a6::Method> {
    a6::Method::ENUM_VALUES
        .iter()
        .copied()
        .find(|method| method.variant_name() == Some(name))
}
