//! The state of a call, as a runner would hold it: what the gateway sent and what the plugin made of it. Safe code
//! only; `host.rs` puts it behind the border.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::abi::numbers::{action, ask, edit, ended, hook, map, number, text};
use crate::rules::{self, Checked};

/// Bytes that stay where they are: what was handed out lives on when the call has new ones.
pub(super) type Data = Arc<[u8]>;

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Data,
    /// `None` for a name without a value, as in `?flag`.
    pub(super) value: Option<Data>,
}

impl Entry {
    pub(super) fn new(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().into(),
            value: Some(value.as_ref().into()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// Why the state was not changed.
pub(super) enum Refusal {
    /// A rule says no, for this reason.
    Refused(String),
    /// A call of this kind has no such thing.
    Unsupported,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) kind: Kind,
    pub(super) id: u32,
    pub(super) method: u8,
    pub(super) status: u16,
    /// The reply is written: only `log` runs now.
    pub(super) over: bool,
    pub(super) texts: BTreeMap<u32, Data>,
    pub(super) maps: BTreeMap<u32, Vec<Entry>>,
    pub(super) variables: BTreeMap<Data, Data>,
    /// The body that the gateway has.
    pub(super) body: Option<Data>,
    /// Why the gateway answers no question any more.
    pub(super) gone: Option<String>,
    pub(super) remaining: Duration,
    pub(super) started: Instant,
    pub(super) asked: Vec<String>,
    pub(super) answer: Option<u16>,
}

impl State {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            id: 0,
            method: 0,
            status: 0,
            over: false,
            texts: BTreeMap::new(),
            maps: BTreeMap::new(),
            variables: BTreeMap::new(),
            body: None,
            gone: None,
            remaining: Duration::from_secs(10),
            started: Instant::now(),
            asked: Vec::new(),
            answer: None,
        }
    }

    pub(super) fn number(&self, what: u32) -> u64 {
        match what {
            number::ID => self.id.into(),
            number::METHOD => self.method.into(),
            number::STATUS => self.status.into(),
            number::REMAINING => {
                let left = self.remaining.saturating_sub(self.started.elapsed());
                u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
            }
            number::HOOK => match self.kind {
                Kind::Request => hook::PRE_REQUEST.into(),
                Kind::Response => hook::RESPONSE.into(),
            },
            number::ENDED if self.over => ended::CHAIN.into(),
            number::ACTION if self.over => action::PASS.into(),
            number::REPLY_STATUS if self.over => self.status.into(),
            _ => 0,
        }
    }

    fn not_over(&self) -> Result<(), Refusal> {
        if self.over {
            let reason = "the reply has been written: `log` can change nothing";
            return Err(reason.to_owned().into());
        }
        Ok(())
    }

    pub(super) fn set_number(&mut self, what: u32, value: u64) -> Result<(), Refusal> {
        self.not_over()?;
        let status = u16::try_from(value).unwrap_or(u16::MAX);
        match (what, self.kind) {
            (number::STATUS, Kind::Response) => {
                rules::status(status)?;
                self.status = status;
            }
            (number::ANSWER_STATUS, _) => {
                rules::answer_status(status)?;
                self.answer = Some(status);
                self.texts.remove(&text::ANSWER_BODY);
                self.maps.remove(&map::ANSWER_HEADERS);
            }
            _ => return Err(Refusal::Unsupported),
        }
        Ok(())
    }

    pub(super) fn set_text(&mut self, what: u32, value: Data) -> Result<(), Refusal> {
        if what != text::ERROR {
            self.not_over()?;
        }
        match (what, self.kind) {
            (text::PATH, Kind::Request) => rules::path(&value)?,
            (text::BODY, Kind::Request) => rules::request_body(&value)?,
            (text::ANSWER_BODY, Kind::Request) => rules::request_answer_body(&value)?,
            (text::BODY | text::ANSWER_BODY, Kind::Response) => rules::response_body(&value)?,
            (text::CONSUMER, _) => rules::not_empty("a consumer", &value)?,
            (text::CREDENTIAL | text::ERROR, _) => {}
            _ => return Err(Refusal::Unsupported),
        }
        self.texts.insert(what, value);
        Ok(())
    }

    pub(super) fn clear_text(&mut self, what: u32) -> Result<(), Refusal> {
        self.not_over()?;
        if !matches!(what, text::CONSUMER | text::CREDENTIAL) {
            return Err(Refusal::Unsupported);
        }
        self.texts.remove(&what);
        Ok(())
    }

    pub(super) fn entries(&self, map: u32) -> &[Entry] {
        self.maps.get(&map).map_or(&[], Vec::as_slice)
    }

    pub(super) fn values<'a>(&'a self, map: u32, name: &[u8]) -> impl Iterator<Item = &'a Entry> {
        self.entries(map)
            .iter()
            .filter(move |entry| same(map, &entry.name, name))
    }

    pub(super) fn edit(&mut self, map: u32, edit: u32, change: Entry) -> Result<(), Refusal> {
        if !matches!(edit, edit::SET | edit::ADD | edit::REMOVE) {
            return Err(Refusal::Unsupported);
        }
        self.check(map, edit, &change)?;
        let entries = self.maps.entry(map).or_default();
        if edit != edit::ADD {
            entries.retain(|entry| !same(map, &entry.name, &change.name));
        }
        if edit != edit::REMOVE {
            entries.push(change);
        }
        Ok(())
    }

    fn check(&self, map: u32, edit: u32, change: &Entry) -> Result<(), Refusal> {
        let name = &*change.name;
        let value = change.value.as_deref().unwrap_or_default();
        if !matches!(map, map::LOG_FIELDS | map::SHARED | map::PRIVATE) {
            self.not_over()?;
        }
        let checked: Checked = match (map, self.kind) {
            (map::REQUEST_HEADERS, Kind::Request) => {
                let values = self.values(map, name).count();
                rules::request_header_edit(edit, name, value, values)
            }
            (map::ARGS, Kind::Request) => rules::arg_name(name),
            (map::RESPONSE_HEADERS, Kind::Request) => rules::beside_header_edit(edit, name, value),
            (map::RESPONSE_HEADERS, Kind::Response) => {
                rules::response_header_edit(edit, name, value)
            }
            (map::ANSWER_HEADERS, _) => rules::answer_header(name, value),
            (map::GROUPS, _) => rules::not_empty("a group", name),
            (map::SHARED | map::PRIVATE, _) => rules::not_empty("a value", name),
            (map::LOG_FIELDS, _) => rules::not_empty("a value", name),
            _ => return Err(Refusal::Unsupported),
        };
        Ok(checked?)
    }

    /// `Err`: the gateway left.
    pub(super) fn ask(&mut self, what: u32, name: &[u8]) -> Result<Option<Data>, String> {
        let (question, answer) = match (what, self.kind) {
            (ask::VARIABLE, _) => {
                let question = format!("variable {}", name.escape_ascii());
                (question, self.variables.get(name).cloned())
            }
            (ask::REQUEST_BODY, Kind::Request) => ("request_body".to_owned(), self.body.clone()),
            (ask::RESPONSE_BODY, Kind::Response) => ("response_body".to_owned(), self.body.clone()),
            _ => return Err("this kind of call has no such thing to ask for".to_owned()),
        };
        if !self.asked.contains(&question) {
            self.asked.push(question);
        }
        match &self.gone {
            Some(reason) => Err(reason.clone()),
            None => Ok(answer),
        }
    }
}

fn same(map: u32, one: &[u8], other: &[u8]) -> bool {
    match map {
        map::REQUEST_HEADERS | map::RESPONSE_HEADERS | map::ANSWER_HEADERS => {
            one.eq_ignore_ascii_case(other)
        }
        _ => one == other,
    }
}
