//! Numbers that cross the border. They are append-only: a side that does not know one answers [`UNSUPPORTED`].

/// What a host function did. 0 is success.
pub const OK: u32 = 0;
/// The host refused: `Host::error_text` has the reason.
pub const REFUSED: u32 = 1;
/// The host does not know this number.
pub const UNSUPPORTED: u32 = 2;

/// State of a [`Found`](super::Found): there is no such thing.
pub const ABSENT: u32 = 0;
/// State of a [`Found`](super::Found): here it is.
pub const PRESENT: u32 = 1;
/// State of a [`Found`](super::Found): the name is there without a value, as in `?flag`.
pub const VALUELESS: u32 = 2;
/// State of a [`Found`](super::Found): the host could not find out: `Host::error_text` has the reason.
pub const FAILED: u32 = 3;

/// What a phase decided.
pub mod decision {
    /// Go on with the next plugin.
    pub const CONTINUE: u32 = 0;
    /// The answer built with [`number::ANSWER_STATUS`](super::number::ANSWER_STATUS) ends the chain.
    pub const RESPOND: u32 = 1;
    /// The phase returned an error; [`text::ERROR`](super::text::ERROR) was set.
    pub const ERROR: u32 = 2;
    /// The phase panicked; [`text::ERROR`](super::text::ERROR) was set.
    pub const PANIC: u32 = 3;
}

/// Phases, in the order in which they can come.
pub mod phase {
    /// Reserved: gateways with a TLS phase.
    pub const CERTIFICATE: u32 = 1;
    /// First half of a request call.
    pub const REWRITE: u32 = 2;
    /// Second half of a request call.
    pub const ACCESS: u32 = 3;
    /// First half of a response call.
    pub const HEADER_FILTER: u32 = 4;
    /// Second half of a response call.
    pub const BODY_FILTER: u32 = 5;
    /// After the reply.
    pub const LOG: u32 = 6;
}

/// For `Host::number` and `Host::set_number`.
pub mod number {
    /// The gateway's id of the call.
    pub const ID: u32 = 1;
    /// The method: 0 GET, 1 HEAD, … 14 TRACE, as `Method` numbers them; 255 for any other. Only a request has one.
    pub const METHOD: u32 = 2;
    /// Status of the response. May be set in a response call.
    pub const STATUS: u32 = 3;
    /// Nanoseconds until the call's deadline; 0 when it has passed.
    pub const REMAINING: u32 = 4;
    /// Setting it begins the answer that ends the chain.
    pub const ANSWER_STATUS: u32 = 5;
    /// Where the gateway calls from: see [`hook`](super::hook).
    pub const HOOK: u32 = 6;
    /// In `log`: what the gateway was told. See [`action`](super::action).
    pub const ACTION: u32 = 7;
    /// In `log`: status of an answer, or the one that the response call has set. 0: not known to the runner.
    pub const REPLY_STATUS: u32 = 8;
    /// In `log`: what ended the call. See [`ended`](super::ended).
    pub const ENDED: u32 = 9;
    /// In `log`: nanoseconds from the call's frame to its end.
    pub const TOOK: u32 = 10;
    /// In `log`: plus the number of a phase: nanoseconds that all plugins together spent in it.
    pub const PHASE_TOOK: u32 = 0x100;
}

/// Where the gateway calls from.
pub mod hook {
    /// A request, before the gateway's own plugins (APISIX: ext-plugin-pre-req).
    pub const PRE_REQUEST: u32 = 1;
    /// A request, after the gateway's own plugins (APISIX: ext-plugin-post-req).
    pub const POST_REQUEST: u32 = 2;
    /// A response (APISIX: ext-plugin-post-resp).
    pub const RESPONSE: u32 = 3;
}

/// What the gateway was told.
pub mod action {
    /// Go on, nothing changed.
    pub const PASS: u32 = 1;
    /// Go on, with changes.
    pub const CHANGE: u32 = 2;
    /// Send this answer to the client.
    pub const ANSWER: u32 = 3;
    /// The call failed.
    pub const ERROR: u32 = 4;
    /// Nothing: the gateway had left.
    pub const NOTHING: u32 = 5;
}

/// What ended a call.
pub mod ended {
    /// All plugins ran.
    pub const CHAIN: u32 = 1;
    /// A plugin answered.
    pub const ANSWER: u32 = 2;
    /// A plugin failed, or could not run.
    pub const FAILURE: u32 = 3;
    /// The deadline passed.
    pub const DEADLINE: u32 = 4;
    /// The gateway left.
    pub const GATEWAY: u32 = 5;
}

/// For `Host::text`, `Host::set_text` and `Host::clear_text`.
pub mod text {
    /// The gateway's key of the configuration, `route#1#ext-plugin-pre-req#7`.
    pub const ROUTE_KEY: u32 = 1;
    /// The client's address: 4 or 16 bytes.
    pub const CLIENT_ADDRESS: u32 = 2;
    /// The decoded path. May be set in a request call.
    pub const PATH: u32 = 3;
    /// The body that this call sends on. May be set. Reading it gives what was set, and asks nobody.
    pub const BODY: u32 = 4;
    /// Body of the answer that ends the chain. May be set.
    pub const ANSWER_BODY: u32 = 5;
    /// Why the phase failed. May be set.
    pub const ERROR: u32 = 6;
    /// Name of the consumer that a plugin of this call has authenticated. May be set.
    pub const CONSUMER: u32 = 7;
    /// Id of the credential that the consumer came with. May be set.
    pub const CREDENTIAL: u32 = 8;
    /// In `log`: name of the plugin that ended the call, if one did.
    pub const ENDED_BY: u32 = 9;
}

/// For `Host::get`, `Host::entry` and `Host::edit`.
pub mod map {
    /// Headers of the request.
    pub const REQUEST_HEADERS: u32 = 1;
    /// Arguments of the query.
    pub const ARGS: u32 = 2;
    /// Response call: the response's headers. Request call: headers to send beside the upstream's.
    pub const RESPONSE_HEADERS: u32 = 3;
    /// Headers of the answer that ends the chain.
    pub const ANSWER_HEADERS: u32 = 4;
    /// Values that all plugins of the call see.
    pub const SHARED: u32 = 5;
    /// Values that only this plugin sees, in all its phases of the call.
    pub const PRIVATE: u32 = 6;
    /// Groups of the consumer; names without a value.
    pub const GROUPS: u32 = 7;
    /// Fields for the call's log line.
    pub const LOG_FIELDS: u32 = 8;
}

/// For `Host::edit`.
pub mod edit {
    /// Replaces all values of the name.
    pub const SET: u32 = 1;
    /// Adds a value beside those there are.
    pub const ADD: u32 = 2;
    /// Removes the name.
    pub const REMOVE: u32 = 3;
}

/// For `Host::ask`: what costs a round trip to the gateway unless it was declared.
pub mod ask {
    /// A variable of the gateway.
    pub const VARIABLE: u32 = 1;
    /// The request's body.
    pub const REQUEST_BODY: u32 = 2;
    /// The upstream's body.
    pub const RESPONSE_BODY: u32 = 3;
}
