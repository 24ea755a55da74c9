//! What a phase decides.

use serde::Serialize;

use crate::Result;

/// What happens after a phase: the next plugin, or an answer that ends the chain.
#[must_use = "a decision that is dropped changes nothing: return it from the phase"]
#[derive(Debug)]
pub struct Next(pub(crate) Option<Answer>);

impl Next {
    /// Go on: later plugins, then the upstream (or, on a response, the client).
    pub const CONTINUE: Self = Self(None);

    /// Ends the chain with an answer to the client. Nothing later runs but `log`.
    ///
    /// ```
    /// # use plugin_api::{Next, Result};
    /// # fn phase() -> Result<Next> {
    /// Next::respond(302).header("Location", "/login").into()
    /// # }
    /// # fn with_json() -> Result<Next> {
    /// # use std::collections::BTreeMap;
    /// let reason = BTreeMap::from([("error", "no key")]);
    /// Next::respond(401).json(&reason)?.into()
    /// # }
    /// ```
    ///
    /// On a response it replaces the upstream's: status, headers and body. There the body must not be empty, because
    /// the gateway would send the upstream's.
    ///
    /// `status` is 200 to 599; 0 stands for the gateway's own default (200 on a request). Others make the phase fail:
    /// a gateway drops the client on 1xx. An empty body with a status of 300 or more is replaced by the gateway's own
    /// page (APISIX). On a response, an answer without headers gets a Content-Type, `text/plain`.
    pub fn respond(status: u16) -> Respond {
        Respond(Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        })
    }
}

/// An answer in the making: see [`Next::respond`].
#[must_use = "an answer that is dropped is not sent: return it from the phase"]
#[derive(Debug)]
pub struct Respond(Answer);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Respond {
    /// Adds a header. The same name may be added more than once. A name or value that cannot stand in HTTP makes the
    /// phase fail, with the reason in the log. A header without a value is not sent by the gateway, so it fails too.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let entry = (name.as_ref().to_vec(), value.as_ref().to_vec());
        self.0.headers.push(entry);
        self
    }

    /// The body, as it is. Content-Length is the gateway's business.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = body.into();
        self
    }

    /// A body of plain text, with its Content-Type.
    pub fn text(self, text: impl Into<String>) -> Self {
        self.header("Content-Type", "text/plain; charset=utf-8")
            .body(text.into())
    }

    /// A body of JSON, with its Content-Type.
    ///
    /// # Errors
    /// The value cannot be written as JSON: a map with keys that are no strings, say.
    pub fn json(self, value: &impl Serialize) -> Result<Self> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("Content-Type", "application/json").body(body))
    }
}

impl From<Respond> for Next {
    fn from(answer: Respond) -> Self {
        Self(Some(answer.0))
    }
}

impl From<Respond> for Result<Next> {
    fn from(answer: Respond) -> Self {
        Ok(answer.into())
    }
}
