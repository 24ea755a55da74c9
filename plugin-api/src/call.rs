//! What a request and a response have in common.

use std::time::{Duration, Instant};

use crate::abi::caller::{Caller, Lookup};
use crate::abi::numbers::{ask, edit, map, number, text};
use crate::{Result, Value};

/// One call of the gateway. [`Request`](crate::Request) and [`Response`](crate::Response) deref to it.
///
/// The request and the response of one client's request are different calls with different ids: values set in one do
/// not reach the other.
#[derive(Debug)]
pub struct Call<'call> {
    pub(crate) caller: Caller<'call>,
}

impl<'call> Call<'call> {
    /// The gateway's number of the call. Starts at 0 and comes again after a while: for an id to log, see
    /// [`Call::request_id`].
    pub fn id(&self) -> u32 {
        self.caller.number(number::ID) as u32
    }

    /// The gateway's key of the configuration: for APISIX `route#<id>#<plugin>#<version>`.
    pub fn route_key(&self) -> Value<'call> {
        Value::new(self.caller.text(text::ROUTE_KEY).unwrap_or_default())
    }

    /// How long the call may still take. Hand it to whatever you wait for, less what the answer itself needs:
    ///
    /// ```
    /// # use std::{sync::mpsc::Receiver, time::Duration};
    /// # use plugin_api::{Next, Request, Result};
    /// # fn phase(request: &mut Request<'_>, answers: &Receiver<bool>) -> Result<Next> {
    /// let patience = request.remaining().saturating_sub(Duration::from_millis(50));
    /// match answers.recv_timeout(patience) {
    ///     Ok(true) => Ok(Next::CONTINUE),
    ///     Ok(false) => Next::respond(403).into(),
    ///     Err(error) => Err(error.into()), // 503, and the reason in the log
    /// }
    /// # }
    /// ```
    pub fn remaining(&self) -> Duration {
        Duration::from_nanos(self.caller.number(number::REMAINING))
    }

    /// When the gateway is answered with an error in the plugin's place. Each reading asks the clock: take it once.
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.remaining()
    }

    /// A variable of the gateway (for APISIX: nginx's and its own, such as `remote_port`, `http_host`, `status`).
    ///
    /// One round trip to the gateway for each name and call, unless the phase declares it with
    /// `#[needs(variables("name"))]`. `None`: the gateway has no such variable, or it has no value.
    ///
    /// # Errors
    /// The gateway left in the middle of the call, or the deadline passed. Return it.
    pub fn variable(&self, name: &str) -> Result<Option<Value<'call>>> {
        let found = self.caller.ask(ask::VARIABLE, name.as_bytes())?;
        Ok(found.map(Value::new))
    }

    /// The id that the gateway logs for the client's request: variable `request_id`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn request_id(&self) -> Result<Option<Value<'call>>> {
        self.variable("request_id")
    }

    /// The id of the route: variable `route_id`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn route_id(&self) -> Result<Option<Value<'call>>> {
        self.variable("route_id")
    }

    /// The name of the route: variable `route_name`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn route_name(&self) -> Result<Option<Value<'call>>> {
        self.variable("route_name")
    }

    /// The id of the service: variable `service_id`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn service_id(&self) -> Result<Option<Value<'call>>> {
        self.variable("service_id")
    }

    /// The consumer that the gateway itself has authenticated: variable `consumer_name`. APISIX runs
    /// `ext-plugin-pre-req` before it authenticates: there it is `None`.
    ///
    /// # Errors
    /// As [`Call::variable`].
    pub fn consumer_name(&self) -> Result<Option<Value<'call>>> {
        self.variable("consumer_name")
    }

    /// The consumer that a plugin earlier in the chain has authenticated with [`Call::set_consumer`].
    pub fn consumer(&self) -> Option<Value<'call>> {
        self.caller.text(text::CONSUMER).map(Value::new)
    }

    /// The credential that the consumer came with.
    pub fn credential(&self) -> Option<Value<'call>> {
        self.caller.text(text::CREDENTIAL).map(Value::new)
    }

    /// Says who the client is, for the plugins that come later in the chain.
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn set_consumer(
        &mut self,
        consumer: impl AsRef<[u8]>,
        credential: Option<&[u8]>,
    ) -> Result<()> {
        self.caller.set_text(text::CONSUMER, consumer.as_ref())?;
        match credential {
            Some(credential) => self.caller.set_text(text::CREDENTIAL, credential),
            None => self.caller.clear_text(text::CREDENTIAL),
        }
    }

    /// Says which credential the client came with, where no consumer belongs to it or one is known already. Where both are
    /// to be said, [`Call::set_consumer`] does it.
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn set_credential(&mut self, credential: impl AsRef<[u8]>) -> Result<()> {
        self.caller.set_text(text::CREDENTIAL, credential.as_ref())
    }

    /// The groups of the consumer, as an authentication plugin has set them.
    pub fn groups(&self) -> impl Iterator<Item = Value<'call>> + '_ {
        self.entries(map::GROUPS).map(|(name, _)| name)
    }

    /// Adds a group of the consumer.
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn add_group(&mut self, group: impl AsRef<[u8]>) -> Result<()> {
        self.caller
            .edit(map::GROUPS, edit::SET, group.as_ref(), b"")
    }

    /// A value that this plugin has set in an earlier phase of the call. It does not reach the call of the response.
    pub fn private(&self, key: &str) -> Option<Value<'call>> {
        self.find(map::PRIVATE, key.as_bytes())
    }

    /// Sets a value for later phases of this plugin in this call.
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn set_private(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.caller
            .edit(map::PRIVATE, edit::SET, key.as_bytes(), value.as_ref())
    }

    /// A value that any plugin of the chain has set in this call.
    pub fn shared(&self, key: &str) -> Option<Value<'call>> {
        self.find(map::SHARED, key.as_bytes())
    }

    /// Sets a value for all plugins of the chain, in this call. Put the plugin's name into the key. Values are bytes: a
    /// number is text, and anything larger is JSON perhaps.
    ///
    /// ```
    /// # use plugin_api::{Request, Result};
    /// # fn phase(request: &mut Request<'_>) -> Result<()> {
    /// request.set_shared("geo.country", "NL")?;
    /// request.set_shared("geo.distance", 120.to_string())?;
    /// // In a plugin that runs later:
    /// let near = match request.shared("geo.distance") {
    ///     Some(distance) => distance.as_str()?.parse::<u32>()? < 500,
    ///     None => false,
    /// };
    /// # let _ = near;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn set_shared(&mut self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.caller
            .edit(map::SHARED, edit::SET, key.as_bytes(), value.as_ref())
    }

    /// Adds a field to the line that the runner logs about the call when it is over, at level info.
    ///
    /// # Errors
    /// The runner refuses the value.
    pub fn log_field(&self, name: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.caller
            .edit(map::LOG_FIELDS, edit::SET, name.as_bytes(), value.as_ref())
    }

    pub(crate) fn find(&self, map: u32, name: &[u8]) -> Option<Value<'call>> {
        self.caller.get(map, name, 0).bytes().map(Value::new)
    }

    pub(crate) fn values(
        &self,
        map: u32,
        name: Vec<u8>,
    ) -> impl Iterator<Item = Lookup<'call>> + '_ {
        (0..)
            .map(move |nth| self.caller.get(map, &name, nth))
            .take_while(|found| *found != Lookup::Absent)
    }

    pub(crate) fn entries(
        &self,
        map: u32,
    ) -> impl Iterator<Item = (Value<'call>, Lookup<'call>)> + '_ {
        (0..)
            .map_while(move |index| self.caller.entry(map, index))
            .map(|(name, value)| (Value::new(name), value))
    }

    pub(crate) fn headers_of(
        &self,
        map: u32,
    ) -> impl Iterator<Item = (Value<'call>, Value<'call>)> + '_ {
        self.entries(map)
            .map(|(name, value)| (name, Value::new(value.bytes().unwrap_or_default())))
    }
}
