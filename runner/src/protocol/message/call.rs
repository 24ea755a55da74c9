//! The two messages that start a call.

use super::{Entries, Malformed, of, root};
use crate::protocol::flat::Table;

/// HTTP_REQ_CALL: a request, before it is sent upstream.
#[derive(Debug, Clone, Copy)]
pub struct RequestCall<'f> {
    /// Number of the call within its nginx worker; 0 for the very first.
    pub id: u32,
    /// The client: 4 or 16 bytes from the gateway, here of any length.
    pub src_ip: &'f [u8],
    /// Number in the schema's `Method`: 0 is GET.
    pub method: u8,
    /// Decoded, without the query.
    pub path: &'f [u8],
    /// Decoded. Different names in arbitrary order; repeats of one name keep theirs.
    pub args: Entries<'f>,
    /// Names in lower case (gateway: as of 3.10 at the latest). Order as with `args`.
    pub headers: Entries<'f>,
    /// What PREPARE_CONF was answered with; 0 is a token too.
    pub conf_token: u32,
}

impl<'f> RequestCall<'f> {
    /// The token alone, of a payload of which nothing else was checked.
    ///
    /// # Errors
    /// [`Malformed`] when the way to the token leaves the payload.
    #[inline]
    pub fn conf_token(payload: &[u8]) -> Result<u32, Malformed> {
        root(payload)?.u32(6).map_err(of("conf_token"))
    }

    /// Checks a whole payload.
    ///
    /// # Errors
    /// [`Malformed`] names the first part of it that cannot be read.
    #[inline]
    pub fn parse(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, Entries::parse)
    }

    /// Checks a payload but for what stands in its lists: [`Entries::check`] is to be called before they are used.
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn open(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, |payload, table, slot, field| {
            Entries::open(payload, table, slot, field)
        })
    }

    #[inline(always)]
    fn read(
        payload: &'f [u8],
        list: impl Fn(&'f [u8], &Table<'f>, usize, &'static str) -> Result<Entries<'f>, Malformed>,
    ) -> Result<Self, Malformed> {
        let table = root(payload)?;
        Ok(Self {
            id: table.u32(0).map_err(of("id"))?,
            src_ip: table.bytes(1).map_err(of("src_ip"))?.unwrap_or_default(),
            method: table.u8(2).map_err(of("method"))?,
            path: table.bytes(3).map_err(of("path"))?.unwrap_or_default(),
            args: list(payload, &table, 4, "args")?,
            headers: list(payload, &table, 5, "headers")?,
            conf_token: table.u32(6).map_err(of("conf_token"))?,
        })
    }
}

/// HTTP_RESP_CALL: a response, after the gateway has fetched the whole of it from upstream.
#[derive(Debug, Clone, Copy)]
pub struct ResponseCall<'f> {
    /// As in [`RequestCall`], but of another call.
    pub id: u32,
    /// The upstream's.
    pub status: u16,
    /// The upstream's.
    pub headers: Entries<'f>,
    /// As in [`RequestCall`].
    pub conf_token: u32,
}

impl<'f> ResponseCall<'f> {
    /// As [`RequestCall::conf_token`].
    ///
    /// # Errors
    /// [`Malformed`] when the way to the token leaves the payload.
    #[inline]
    pub fn conf_token(payload: &[u8]) -> Result<u32, Malformed> {
        root(payload)?.u32(3).map_err(of("conf_token"))
    }

    /// As [`RequestCall::parse`].
    ///
    /// # Errors
    /// [`Malformed`] names the first part of it that cannot be read.
    #[inline]
    pub fn parse(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, Entries::parse)
    }

    /// As [`RequestCall::open`].
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn open(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, Entries::open)
    }

    #[inline(always)]
    fn read(
        payload: &'f [u8],
        list: impl Fn(&'f [u8], &Table<'f>, usize, &'static str) -> Result<Entries<'f>, Malformed>,
    ) -> Result<Self, Malformed> {
        let table = root(payload)?;
        Ok(Self {
            id: table.u32(0).map_err(of("id"))?,
            status: table.u16(1).map_err(of("status"))?,
            headers: list(payload, &table, 2, "headers")?,
            conf_token: table.u32(3).map_err(of("conf_token"))?,
        })
    }
}
