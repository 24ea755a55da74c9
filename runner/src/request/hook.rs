//! Where the gateway calls from. Knows APISIX's names of its hooks, and nothing of what happens there.

use plugin_api::abi::numbers::hook;
use serde::{Deserialize, Serialize};

use super::service::CallKind;

/// The gateway's plugin that makes the call after its own plugins ran.
const POST_REQUEST: &str = "ext-plugin-post-req";

/// Where the gateway calls from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// A request, before the gateway's own plugins. Also one whose key does not say where.
    PreRequest,
    /// A request, after the gateway's own plugins.
    PostRequest,
    /// A response.
    Response,
}

impl Hook {
    /// From the call's kind and the key of its conf: `route#<id>#<plugin>#<version>`.
    pub fn of(kind: CallKind, route_key: &str) -> Self {
        match kind {
            CallKind::Response => Self::Response,
            // From the end: an id may have `#` in it.
            CallKind::Request if route_key.rsplit('#').nth(1) == Some(POST_REQUEST) => {
                Self::PostRequest
            }
            CallKind::Request => Self::PreRequest,
        }
    }

    /// `numbers::hook`.
    pub fn number(self) -> u32 {
        match self {
            Self::PreRequest => hook::PRE_REQUEST,
            Self::PostRequest => hook::POST_REQUEST,
            Self::Response => hook::RESPONSE,
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreRequest => "pre-request",
            Self::PostRequest => "post-request",
            Self::Response => "response",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_says_from_which_hook_a_request_comes() {
        for (key, hook) in [
            ("route#1#ext-plugin-pre-req#7", Hook::PreRequest),
            ("route#1#ext-plugin-post-req#7", Hook::PostRequest),
            (
                "route&service#a&b#ext-plugin-post-req#1&2",
                Hook::PostRequest,
            ),
            (
                "route#ext-plugin-post-req#ext-plugin-pre-req#7",
                Hook::PreRequest,
            ),
            ("", Hook::PreRequest),
        ] {
            assert_eq!(Hook::of(CallKind::Request, key), hook, "{key}");
            assert_eq!(Hook::of(CallKind::Response, key), Hook::Response);
        }
    }
}
