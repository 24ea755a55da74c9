//! What a reply makes of a request or a response, by the gateway's rules: two replies with other bytes may mean the
//! same.

use std::collections::BTreeMap;

use crate::flat::Table;
use crate::gateway::Frame;
use crate::message::{Answer, Code, Entries, HTTP_RESP_CALL, Reply, Rewrite, read_entries};

/// Values by name; bytes that are no ASCII are escaped, so that a difference can be read.
type Values = BTreeMap<String, Vec<Option<String>>>;
/// Headers in the order they were given, with names in lower case.
type List = Vec<(String, Option<String>)>;

/// What happens after a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The client gets this and no upstream is asked.
    Answered {
        /// The status.
        status: u16,
        /// Headers in the order they were given: the gateway adds them one by one.
        headers: List,
        /// The body.
        body: String,
    },
    /// The upstream gets this.
    Forwarded {
        /// The path, decoded.
        path: String,
        /// Arguments of the query.
        args: Values,
        /// Headers, with names in lower case.
        headers: Values,
        /// A body instead of the client's.
        body: String,
        /// Added to what the client gets.
        response_headers: List,
    },
    /// The client gets this of what the upstream said.
    Returned {
        /// The status.
        status: u16,
        /// Headers, with names in lower case.
        headers: Values,
        /// A body instead of the upstream's.
        body: String,
    },
    /// The client gets an error.
    Failed(Code),
}

impl Effect {
    /// What a reply makes of a call.
    pub fn of(call: &Frame, reply: &Reply) -> Self {
        let table = Table::root(&call.payload).expect("a recorded call can be read");
        match reply {
            Reply::Error(code) => Self::Failed(*code),
            Reply::Stop(answer) => Self::answered(answer),
            Reply::Response(answer) => Self::returned(&table, answer),
            Reply::Nothing if call.kind == HTTP_RESP_CALL => {
                Self::returned(&table, &Answer::default())
            }
            Reply::Nothing => Self::forwarded(&table, &Rewrite::default()),
            Reply::Rewrite(rewrite) => Self::forwarded(&table, rewrite),
        }
    }

    fn answered(answer: &Answer) -> Self {
        let mut headers = answer.headers.clone();
        // gateway: an absent or empty header value is not sent.
        headers.retain(|(_, value)| value.as_ref().is_some_and(|value| !value.is_empty()));
        Self::Answered {
            status: if answer.status == 0 {
                200
            } else {
                answer.status
            },
            headers: list(&headers),
            body: text(&answer.body),
        }
    }

    fn forwarded(request: &Table<'_>, rewrite: &Rewrite) -> Self {
        let client = request.bytes(3).unwrap_or_default();
        let path = if rewrite.path.is_empty() {
            client
        } else {
            &rewrite.path
        };
        let mut args = values(&client_entries(request, 4), text);
        for (name, _) in &rewrite.args {
            args.remove(&text(name));
        }
        for (name, value) in &rewrite.args {
            // gateway: all repeats are sent, an absent value deletes, others stay.
            if let Some(value) = value {
                args.entry(text(name)).or_default().push(Some(text(value)));
            }
        }
        let mut headers = values(&client_entries(request, 5), lower);
        for (name, value) in &rewrite.headers {
            // gateway: the last of a repeated header wins, an absent or empty value deletes.
            headers.remove(&lower(name));
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                headers.insert(lower(name), vec![Some(text(value))]);
            }
        }
        Self::Forwarded {
            path: text(path),
            args,
            headers,
            body: text(&rewrite.body),
            response_headers: list(&rewrite.response_headers),
        }
    }

    fn returned(response: &Table<'_>, answer: &Answer) -> Self {
        let status = if answer.status == 0 {
            response.u16(1)
        } else {
            answer.status
        };
        Self::Returned {
            status,
            headers: values(&answer.headers, lower),
            body: text(&answer.body),
        }
    }
}

/// A recorded response reply as our runner has to say it: other runners name only the headers they set, and the
/// gateway then loses the upstream's. Ours names all of them.
#[must_use]
pub fn with_all_headers(call: &Frame, reply: &Answer) -> Answer {
    let table = Table::root(&call.payload).expect("a recorded call can be read");
    let named = |entries: &Entries, name: &[u8]| {
        let mut names = entries.iter().map(|(name, _)| name);
        names.any(|other| other.eq_ignore_ascii_case(name))
    };
    let mut headers = client_entries(&table, 2);
    headers.retain(|(name, _)| {
        let stale = !reply.body.is_empty() && name.eq_ignore_ascii_case(b"content-length");
        !stale && !is_of_one_hop(name) && !named(&reply.headers, name)
    });
    headers.extend(reply.headers.iter().cloned());
    Answer {
        headers,
        ..reply.clone()
    }
}

/// What belongs to one connection.
fn is_of_one_hop(name: &[u8]) -> bool {
    let names = ["connection", "keep-alive", "transfer-encoding", "upgrade"];
    names
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

fn values(entries: &Entries, name_of: fn(&[u8]) -> String) -> Values {
    let mut values = Values::new();
    for (name, value) in entries {
        let value = value.as_deref().map(|value| header_text(name, value));
        values.entry(name_of(name)).or_default().push(value);
    }
    values
}

fn list(entries: &Entries) -> List {
    let entries = entries.iter();
    entries
        .map(|(name, value)| {
            let value = value.as_deref().map(|value| header_text(name, value));
            (lower(name), value)
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The text of a header's value. Every runner's plugins put its own language into one.
fn header_text(name: &[u8], value: &[u8]) -> String {
    if name.eq_ignore_ascii_case(b"x-resp-a6-runner") {
        return "the runner's language".to_owned();
    }
    text(value)
}

fn lower(bytes: &[u8]) -> String {
    text(&bytes.to_ascii_lowercase())
}

fn client_entries(table: &Table<'_>, number: usize) -> Entries {
    read_entries(table, number).expect("a recorded call names its entries")
}
