//! PREPARE_CONF: a route's plugins and their configuration.

use flatbuffers::FlatBufferBuilder;

use super::{Entries, Malformed, of, root};
use crate::protocol::generated::a6::{TextEntry, TextEntryArgs, prepare_conf};

/// What a route wants, sent once before the route's first call.
#[derive(Debug, Clone, Copy)]
pub struct PrepareConf<'f> {
    /// `route#<id>#<plugin>#<version>`, or with a service `route&service#r&s#plugin#v&v`.
    pub key: &'f [u8],
    /// Plugin names and configurations in the order the plugins run; empty also when the route names none.
    pub conf: Entries<'f>,
}

impl<'f> PrepareConf<'f> {
    /// Checks a whole payload.
    ///
    /// # Errors
    /// [`Malformed`] names the first part of it that cannot be read.
    pub fn parse(payload: &'f [u8]) -> Result<Self, Malformed> {
        let table = root(payload)?;
        Ok(Self {
            conf: Entries::parse(payload, &table, 0, "conf")?,
            key: table.bytes(1).map_err(of("key"))?.unwrap_or_default(),
        })
    }
    /// The payload of a message with one plugin, as a gateway would send it: for a conf of our own.
    pub fn write(key: &str, plugin: &str, value: &str) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let name = Some(builder.create_string(plugin));
        let value = Some(builder.create_string(value));
        let entry = TextEntry::create(&mut builder, &TextEntryArgs { name, value });
        let conf = Some(builder.create_vector(&[entry]));
        let key = Some(builder.create_string(key));
        let message = prepare_conf::Req::create(&mut builder, &prepare_conf::ReqArgs { conf, key });
        builder.finish_minimal(message);
        builder.finished_data().to_vec()
    }
}
