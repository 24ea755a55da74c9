//! A response on its way to the client.

use std::ops::{Deref, DerefMut};

use crate::abi::numbers::{ask, edit, map, number, text};
use crate::call::Call;
use crate::{Result, Value};

/// The upstream's response: read it, change it, or replace it with [`Next::respond`](crate::Next::respond).
#[derive(Debug)]
pub struct Response<'call>(pub(crate) Call<'call>);

impl<'call> Response<'call> {
    /// The status, as an earlier plugin has set it or as the upstream gave it.
    pub fn status(&self) -> u16 {
        self.0.caller.number(number::STATUS) as u16
    }

    /// Sets the status.
    ///
    /// # Errors
    /// It is not 200 to 599.
    pub fn set_status(&mut self, status: u16) -> Result<()> {
        self.0.caller.set_number(number::STATUS, status.into())
    }

    /// The first value of a header; upper and lower case are the same.
    pub fn header(&self, name: &str) -> Option<Value<'call>> {
        self.0.find(map::RESPONSE_HEADERS, name.as_bytes())
    }

    /// All values of a header, in the upstream's order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = Value<'call>> + '_ {
        self.0
            .values(map::RESPONSE_HEADERS, name.into())
            .map(|value| Value::new(value.bytes().unwrap_or_default()))
    }

    /// All headers. Repeats of a name are in the upstream's order.
    pub fn headers(&self) -> impl Iterator<Item = (Value<'call>, Value<'call>)> + '_ {
        self.0.headers_of(map::RESPONSE_HEADERS)
    }

    /// Sets a header, instead of all its values.
    ///
    /// # Errors
    /// Name or value cannot stand in HTTP, the value is empty (the gateway would not send it: use
    /// [`Response::remove_header`]), or the header is the gateway's business (`content-length`, `connection`,
    /// `transfer-encoding` and the like).
    pub fn set_header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.edit(
            map::RESPONSE_HEADERS,
            edit::SET,
            name.as_ref(),
            value.as_ref(),
        )
    }

    /// Adds a value of a header, beside those there are.
    ///
    /// # Errors
    /// As [`Response::set_header`].
    pub fn add_header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.edit(
            map::RESPONSE_HEADERS,
            edit::ADD,
            name.as_ref(),
            value.as_ref(),
        )
    }

    /// Removes all values of a header.
    ///
    /// # Errors
    /// The name cannot stand in HTTP.
    pub fn remove_header(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .caller
            .edit(map::RESPONSE_HEADERS, edit::REMOVE, name.as_ref(), b"")
    }

    /// The whole body, as an earlier plugin has set it or as the upstream gave it. `None`: there is none.
    ///
    /// In `body_filter` it is here already; in `header_filter` it costs a round trip unless the phase declares
    /// `#[needs(response_body)]`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn body(&self) -> Result<Option<Value<'call>>> {
        if let Some(body) = self.0.caller.text(text::BODY) {
            return Ok(Some(Value::new(body)));
        }
        Ok(self.0.caller.ask(ask::RESPONSE_BODY, b"")?.map(Value::new))
    }

    /// Sets the body. The upstream's Content-Length goes; its Content-Encoding stays, as only the author knows
    /// whether the new body is encoded:
    ///
    /// ```
    /// # use plugin_api::{Response, Result};
    /// # fn phase(response: &mut Response<'_>) -> Result<()> {
    /// response.remove_header("content-encoding")?; // what follows is plain
    /// response.set_header("content-type", "application/json")?;
    /// response.set_body(r#"{"replaced": true}"#)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The body is empty (the gateway would send the upstream's) or too large for the protocol (16 MiB).
    pub fn set_body(&mut self, body: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.set_text(text::BODY, body.as_ref())
    }
}

impl<'call> Deref for Response<'call> {
    type Target = Call<'call>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Response<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
