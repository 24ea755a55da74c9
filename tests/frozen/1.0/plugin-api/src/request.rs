//! A request on its way to the upstream.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, DerefMut};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::abi::caller::Lookup;
use crate::abi::numbers::{ask, edit, map, number, text};
use crate::call::Call;
use crate::{Arg, Error, Method, Result, Value};

/// The request: read it, change it, or answer it with [`Next::respond`](crate::Next::respond).
///
/// Later plugins see what earlier ones changed. What is read borrows from the call and not from the request, so
/// `request.set_header("x-copy", request.header("x").unwrap())` compiles.
#[derive(Debug)]
pub struct Request<'call>(pub(crate) Call<'call>);

impl<'call> Request<'call> {
    /// The method.
    pub fn method(&self) -> Method {
        Method(self.0.caller.number(number::METHOD) as u8)
    }

    /// The client's address as the gateway sees it.
    pub fn client_address(&self) -> Option<IpAddr> {
        let bytes = self.0.caller.text(text::CLIENT_ADDRESS)?;
        let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
        v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into()))
            .ok()
    }

    /// `http` or `https`: variable `scheme`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn scheme(&self) -> Result<Option<Value<'call>>> {
        self.variable("scheme")
    }

    /// The host that the client asked for: its `host` header, with the port if it gave one.
    pub fn host(&self) -> Option<Value<'call>> {
        self.header("host")
    }

    /// The path, decoded, without the query.
    pub fn path(&self) -> Value<'call> {
        Value::new(self.0.caller.text(text::PATH).unwrap_or_default())
    }

    /// Sets the path that the upstream gets: decoded (the gateway encodes it: `%41` would become `%2541`), without a
    /// query (`?` would become `%3F`: use [`Request::set_arg`]).
    ///
    /// # Errors
    /// It does not start with `/` (the gateway would glue it to the upstream's host name).
    pub fn set_path(&mut self, path: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.set_text(text::PATH, path.as_ref())
    }

    /// The first value of an argument of the query; names are case-sensitive.
    ///
    /// ```
    /// # use plugin_api::{Arg, Request};
    /// # fn phase(request: &Request<'_>) {
    /// match request.arg("debug") {
    ///     None => {}                    // /path
    ///     Some(Arg::Flag) => {}         // /path?debug
    ///     Some(Arg::Value(_level)) => {} // /path?debug= and /path?debug=2
    /// }
    /// # }
    /// ```
    pub fn arg(&self, name: &str) -> Option<Arg<'call>> {
        arg_of(self.0.caller.get(map::ARGS, name.as_bytes(), 0))
    }

    /// All values of an argument, in the client's order.
    pub fn arg_values(&self, name: &str) -> impl Iterator<Item = Arg<'call>> + '_ {
        self.0.values(map::ARGS, name.into()).filter_map(arg_of)
    }

    /// All arguments. Repeats of a name are in the client's order; the order of different names means nothing.
    pub fn args(&self) -> impl Iterator<Item = (Value<'call>, Arg<'call>)> + '_ {
        self.0
            .entries(map::ARGS)
            .filter_map(|(name, value)| Some((name, arg_of(value)?)))
    }

    /// Sets an argument, instead of all its values.
    ///
    /// # Errors
    /// The name is empty.
    pub fn set_arg(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .caller
            .edit(map::ARGS, edit::SET, name.as_ref(), value.as_ref())
    }

    /// Adds a value of an argument, beside those there are.
    ///
    /// # Errors
    /// The name is empty.
    pub fn add_arg(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .caller
            .edit(map::ARGS, edit::ADD, name.as_ref(), value.as_ref())
    }

    /// Removes all values of an argument.
    ///
    /// # Errors
    /// The name is empty.
    pub fn remove_arg(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .caller
            .edit(map::ARGS, edit::REMOVE, name.as_ref(), b"")
    }

    /// The first value of a header; upper and lower case are the same.
    pub fn header(&self, name: &str) -> Option<Value<'call>> {
        self.0.find(map::REQUEST_HEADERS, name.as_bytes())
    }

    /// All values of a header, in the client's order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = Value<'call>> + '_ {
        self.0
            .values(map::REQUEST_HEADERS, name.into())
            .map(|value| Value::new(value.bytes().unwrap_or_default()))
    }

    /// All headers. Repeats of a name are in the client's order; the order of different names means nothing.
    pub fn headers(&self) -> impl Iterator<Item = (Value<'call>, Value<'call>)> + '_ {
        self.0.headers_of(map::REQUEST_HEADERS)
    }

    /// Sets a header for later plugins and the upstream, instead of all its values. (There is no way to add a second
    /// value: of several, the gateway keeps only the last.)
    ///
    /// # Errors
    /// Name or value cannot stand in HTTP, the value is empty (the gateway would delete the header: use
    /// [`Request::remove_header`]), or the header is the gateway's business (`content-length`, and the connection's
    /// own, such as `transfer-encoding`).
    pub fn set_header(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.edit(
            map::REQUEST_HEADERS,
            edit::SET,
            name.as_ref(),
            value.as_ref(),
        )
    }

    /// Removes all values of a header.
    ///
    /// # Errors
    /// The name is `host` (the upstream would answer 400), cannot stand in HTTP, or is the gateway's business.
    pub fn remove_header(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.0
            .caller
            .edit(map::REQUEST_HEADERS, edit::REMOVE, name.as_ref(), b"")
    }

    /// Sets a header for the client's response, instead of what plugins of this call have set before. It goes
    /// *beside* the upstream's headers of that name, not instead of them.
    ///
    /// # Errors
    /// Name or value cannot stand in HTTP, the value is empty, or the gateway drops this header on a response from
    /// here (`content-type`, `location` and the like: change those in `header_filter`). For an answer of the plugin's
    /// own, see [`Respond::header`](crate::Respond::header).
    pub fn set_response_header(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.0.caller.edit(
            map::RESPONSE_HEADERS,
            edit::SET,
            name.as_ref(),
            value.as_ref(),
        )
    }

    /// Adds a header to the client's response, beside the upstream's and those that plugins have set.
    ///
    /// # Errors
    /// As [`Request::set_response_header`].
    pub fn add_response_header(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        self.0.caller.edit(
            map::RESPONSE_HEADERS,
            edit::ADD,
            name.as_ref(),
            value.as_ref(),
        )
    }

    /// The headers that plugins of this call have set or added for the client's response.
    pub fn response_headers(&self) -> impl Iterator<Item = (Value<'call>, Value<'call>)> + '_ {
        self.0.headers_of(map::RESPONSE_HEADERS)
    }

    /// The body, as an earlier plugin has set it or as the client sent it. `None`: there is none.
    ///
    /// One round trip to the gateway for each call, unless the phase declares `#[needs(request_body)]`. A body of
    /// 16 MiB or more cannot be had: the gateway ends the call.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn body(&self) -> Result<Option<Value<'call>>> {
        if let Some(body) = self.0.caller.text(text::BODY) {
            return Ok(Some(Value::new(body)));
        }
        Ok(self.0.caller.ask(ask::REQUEST_BODY, b"")?.map(Value::new))
    }

    /// Sets the body that the upstream gets.
    ///
    /// # Errors
    /// The body is empty (the gateway ignores that) or too large for the protocol (16 MiB).
    pub fn set_body(&mut self, body: impl AsRef<[u8]>) -> Result<()> {
        self.0.caller.set_text(text::BODY, body.as_ref())
    }

    /// The body, read as JSON. No body is an error.
    ///
    /// # Errors
    /// There is none, it is no JSON, or it does not fit `T`; else as [`Call::variable`].
    pub fn body_json<T: DeserializeOwned>(&self) -> Result<T> {
        let body = self
            .body()?
            .ok_or_else(|| Error::new("the request has no body"))?;
        serde_json::from_slice(body.as_bytes())
            .map_err(|error| Error::from(error).context("the request's body"))
    }

    /// Sets the body to JSON, and the Content-Type.
    ///
    /// # Errors
    /// The value cannot be written as JSON; else as [`Request::set_body`].
    pub fn set_body_json(&mut self, value: &impl Serialize) -> Result<()> {
        self.set_body(serde_json::to_vec(value)?)?;
        self.set_header("content-type", "application/json")
    }

    /// The body, read as a form (`application/x-www-form-urlencoded`); empty when there is none.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn body_form(&self) -> Result<Vec<(String, String)>> {
        let body = self.body()?.map(Value::as_bytes).unwrap_or_default();
        Ok(form_urlencoded::parse(body).into_owned().collect())
    }

    /// Sets the body to a form, and the Content-Type.
    ///
    /// # Errors
    /// As [`Request::set_body`].
    pub fn set_body_form<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        form: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form);
        self.set_body(body.finish())?;
        self.set_header("content-type", "application/x-www-form-urlencoded")
    }
}

impl<'call> Deref for Request<'call> {
    type Target = Call<'call>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Request<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn arg_of(found: Lookup<'_>) -> Option<Arg<'_>> {
    match found {
        Lookup::Absent => None,
        Lookup::Valueless => Some(Arg::Flag),
        Lookup::Present(bytes) => Some(Arg::Value(Value::new(bytes))),
    }
}
