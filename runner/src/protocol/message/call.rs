//! The two messages that start a call.

use super::{Entries, Malformed, of, root};
use crate::protocol::flat::Flaw;

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
        let call = Self::open(payload)?;
        call.args.check("args")?;
        call.headers.check("headers")?;
        Ok(call)
    }

    /// Checks a payload but for what stands in its lists: each entry is to be checked before it is used.
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn open(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, |_| ()).or_else(|()| Self::read(payload, |fault| fault))
    }

    /// `tell` makes of a fault what is to be told: all that is told of the usual call, which has none, costs it something.
    #[inline(always)]
    fn read<E>(payload: &'f [u8], tell: impl Fn(Malformed) -> E + Copy) -> Result<Self, E> {
        let table = root(payload).map_err(tell)?;
        Ok(Self {
            id: table.u32(0).map_err(field("id", tell))?,
            src_ip: table.bytes_or_none(1).map_err(field("src_ip", tell))?,
            method: table.u8(2).map_err(field("method", tell))?,
            path: table.bytes_or_none(3).map_err(field("path", tell))?,
            args: Entries::open(payload, &table, 4).map_err(field("args", tell))?,
            headers: Entries::open(payload, &table, 5).map_err(field("headers", tell))?,
            conf_token: table.u32(6).map_err(field("conf_token", tell))?,
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
        let call = Self::open(payload)?;
        call.headers.check("headers")?;
        Ok(call)
    }

    /// As [`RequestCall::open`].
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn open(payload: &'f [u8]) -> Result<Self, Malformed> {
        Self::read(payload, |_| ()).or_else(|()| Self::read(payload, |fault| fault))
    }

    /// As that of a request.
    #[inline(always)]
    fn read<E>(payload: &'f [u8], tell: impl Fn(Malformed) -> E + Copy) -> Result<Self, E> {
        let table = root(payload).map_err(tell)?;
        Ok(Self {
            id: table.u32(0).map_err(field("id", tell))?,
            status: table.u16(1).map_err(field("status", tell))?,
            headers: Entries::open(payload, &table, 2).map_err(field("headers", tell))?,
            conf_token: table.u32(3).map_err(field("conf_token", tell))?,
        })
    }
}

/// Names the field in which a flaw was found, and makes of that what `tell` does.
#[inline(always)]
fn field<E>(name: &'static str, tell: impl Fn(Malformed) -> E) -> impl FnOnce(Flaw) -> E {
    move |flaw| tell(of(name)(flaw))
}
