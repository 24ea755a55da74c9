//! Whose requests are counted together.

use std::borrow::Cow;
use std::net::IpAddr;

use plugin_api::{Error, Request, Result, Value};

/// The key of a conf, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The client's address.
    Address,
    /// The value of a request header.
    Header(String),
    /// The value of a variable of the gateway: a round trip for each request.
    Variable(String),
    /// All requests of the route.
    Route,
}

impl Key {
    /// Reads the key as it stands in the conf.
    ///
    /// # Errors
    /// It is none of the forms.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "remote_addr" => Ok(Self::Address),
            None if text == "route" => Ok(Self::Route),
            Some(("header", name)) if !name.is_empty() => Ok(Self::Header(name.to_owned())),
            Some(("var", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            _ => Err(Error::new(format_args!(
                "`key`: `{text}` is not `remote_addr`, `route`, `header:NAME` or `var:NAME`"
            ))),
        }
    }

    /// The value in a request. `None`, no value or an empty one: these requests count as one client's, so that
    /// nobody escapes the limit by leaving a header out.
    ///
    /// # Errors
    /// The gateway left while it was asked for the variable.
    pub(crate) fn value<'call>(
        &self,
        request: &Request<'call>,
    ) -> Result<Option<Cow<'call, [u8]>>> {
        let value = match self {
            Self::Address => return Ok(request.client_address().map(bytes)),
            Self::Route => None,
            Self::Header(name) => request.header(name),
            Self::Variable(name) => request.variable(name)?,
        };
        let value = value.filter(|value| !value.is_empty());
        Ok(value.map(Value::as_bytes).map(Cow::Borrowed))
    }
}

fn bytes<'a>(address: IpAddr) -> Cow<'a, [u8]> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec().into(),
        IpAddr::V6(address) => address.octets().to_vec().into(),
    }
}
