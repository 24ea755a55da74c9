//! PREPARE_CONF: a route's plugins and their configuration.

use super::{Entries, Malformed, of, root};

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
}
