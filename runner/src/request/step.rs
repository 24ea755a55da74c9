//! What a plugin did in a phase, as text: for `call`, `check` and `dev`'s page. Tells what an observer has seen, and
//! watches nothing itself.

use serde::{Deserialize, Serialize};

use super::observer::{Before, Passed};
use super::overlay::Overlay;
use super::plugin_log::{self, Line};
use super::state::State;
use crate::config::Level;
use crate::plugins::generation::phase_name;
use crate::plugins::instance::Decision;

/// One phase of one plugin in one call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The plugin's name.
    pub plugin: String,
    /// Number of the generation that ran.
    pub generation: u64,
    /// Its place in the chain, from 0.
    pub place: usize,
    /// Name of the phase.
    pub phase: String,
    /// What it decided.
    pub decision: Decided,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Nanoseconds in the plugin.
    pub took_ns: u64,
    /// What it asked the gateway without having declared it. Only the observer knows.
    pub asked: Vec<String>,
    /// What is different after it.
    pub changes: Vec<Change>,
    /// What it logged. Only the observer knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logged: Vec<Logged>,
    /// There were more changes than are told.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
}

/// What a phase decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decided {
    /// Go on.
    #[default]
    Continue,
    /// Its answer ends the chain.
    Answer,
    /// It returned an error.
    Error,
    /// It panicked.
    Panic,
}

/// Something that a phase changed: values before and after; none: it was not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `path`, `arg`, `status`, `header`, `body`, `response header`, `consumer`, `credential`, `group`, `shared`,
    /// `log field`, `answer` (its status), `answer header`, `answer body`.
    pub what: String,
    /// The name of a header, an argument, a field; empty for what there is one of.
    pub name: String,
    /// Values before.
    pub before: Vec<String>,
    /// Values after.
    pub after: Vec<String>,
}

/// An event that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// How grave it is.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// A JSON object; empty without fields.
    pub fields: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Decided {
    /// Whether it is a failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Panic)
    }
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Continue => Self::Continue,
            Decision::Respond => Self::Answer,
            Decision::Failed { panicked: false } => Self::Error,
            Decision::Failed { panicked: true } => Self::Panic,
        }
    }
}

impl Change {
    /// Whether it belongs to an answer of the plugin's own.
    pub fn is_answer(&self) -> bool {
        self.what.starts_with("answer")
    }
}

impl Logged {
    /// An event, with this many bytes of its texts.
    pub fn of(line: &Line<'_>, most: usize) -> Self {
        Self {
            level: plugin_log::level(line.level),
            message: shown(line.message, most),
            fields: shown(line.fields, most),
        }
    }
}

impl Step {
    /// A phase that has run, with this many bytes of each value.
    pub fn of(state: &State<'_>, phase: &Passed<'_, '_>, most: usize) -> Self {
        let decision = Decided::from(phase.decision);
        let error = state.error.filter(|_| decision.is_failure());
        Self {
            plugin: phase.of.name().to_owned(),
            generation: state.running.generation,
            place: state.running.link,
            phase: phase_name(state.running.phase).to_owned(),
            decision,
            error: error.map(|error| shown(error, most)),
            took_ns: u64::try_from(phase.took.as_nanos()).unwrap_or(u64::MAX),
            changes: changes(&phase.before, state, most),
            ..Self::default()
        }
    }

    /// The status that it answered; 0: the gateway's default.
    pub fn answered(&self) -> Option<&str> {
        let mut changes = self.changes.iter();
        let answer = changes.find(|change| change.what == "answer")?;
        answer.after.first().map(String::as_str)
    }
}

/// In the order in which they are shown.
fn changes(before: &Before<'_>, now: &State<'_>, most: usize) -> Vec<Change> {
    let (old, new) = (&before.changes, &now.changes);
    let answers = (before.answer.as_ref(), now.answer.as_ref());
    let status = |status: Option<u16>| status.map(|status| status.to_string());
    let mut found = Found::new(most);
    found.text("path", old.path, new.path);
    found.map("arg", Some(&old.args), Some(&new.args));
    found.number("status", status(old.status), status(new.status));
    found.map("header", Some(&old.headers), Some(&new.headers));
    found.text("body", old.body, new.body);
    found.map("response header", Some(&old.beside), Some(&new.beside));
    found.text("consumer", old.consumer, new.consumer);
    found.text("credential", old.credential, new.credential);
    found.map("group", Some(&old.groups), Some(&new.groups));
    found.map("shared", Some(&old.shared), Some(&new.shared));
    found.map("log field", Some(&old.log_fields), Some(&new.log_fields));
    let (old, new) = answers;
    let number = |answer: Option<u16>| answer.map(|status| status.to_string());
    let (was, is) = (old.map(|it| it.status), new.map(|it| it.status));
    found.number("answer", number(was), number(is));
    let (was, is) = (old.map(|it| &it.headers), new.map(|it| &it.headers));
    found.map("answer header", was, is);
    let body = |bytes: &&[u8]| !bytes.is_empty();
    let (was, is) = (old.map(|it| it.body), new.map(|it| it.body));
    found.text("answer body", was.filter(body), is.filter(body));
    found.changes
}

struct Found {
    changes: Vec<Change>,
    most: usize,
}

impl Found {
    fn new(most: usize) -> Self {
        let changes = Vec::new();
        Self { changes, most }
    }

    fn text(&mut self, what: &str, before: Option<&[u8]>, after: Option<&[u8]>) {
        if before != after {
            let text = |value: Option<&[u8]>| value.map(|value| shown(value, self.most));
            self.put(what, "", text(before), text(after));
        }
    }

    fn number(&mut self, what: &str, before: Option<String>, after: Option<String>) {
        if before != after {
            self.put(what, "", before, after);
        }
    }

    /// By name. The frame's own never change; what hides them can be another answer's.
    fn map(&mut self, what: &str, before: Option<&Overlay<'_>>, after: Option<&Overlay<'_>>) {
        let start = self.changes.len();
        let is_gone = |name: &[u8]| after.is_none_or(|map| map.change(name).is_none());
        let gone = names(before).filter(|name| is_gone(name));
        for name in names(after).chain(gone) {
            let (was, is) = (values(before, name), values(after, name));
            if was != is {
                let text = match what.ends_with("header") {
                    true => shown(&name.to_ascii_lowercase(), self.most),
                    false => shown(name, self.most),
                };
                let all = |values: Vec<Option<&[u8]>>| -> Vec<_> {
                    let values = values.into_iter().map(Option::unwrap_or_default);
                    values.map(|value| shown(value, self.most)).collect()
                };
                let (was, is) = (all(was), all(is));
                self.put(what, &text, was, is);
            }
        }
        self.changes[start..].sort_by(|one, other| one.name.cmp(&other.name));
    }

    fn put(
        &mut self,
        what: &str,
        name: &str,
        before: impl IntoIterator<Item = String>,
        after: impl IntoIterator<Item = String>,
    ) {
        self.changes.push(Change {
            what: what.to_owned(),
            name: name.to_owned(),
            before: before.into_iter().collect(),
            after: after.into_iter().collect(),
        });
    }
}

fn names<'m>(map: Option<&'m Overlay<'_>>) -> impl Iterator<Item = &'m [u8]> {
    let changes = map.into_iter().flat_map(|map| map.changes());
    changes.map(|change| change.name)
}

fn values<'m>(map: Option<&'m Overlay<'_>>, name: &[u8]) -> Vec<Option<&'m [u8]>> {
    let nth = |nth| map.and_then(|map| map.get(name, nth));
    (0..).map_while(nth).collect()
}

/// The beginning of a value, as text.
fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(most)]);
    match bytes.len() > most {
        true => format!("{text}… ({} bytes)", bytes.len()),
        false => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bumpalo::Bump;

    use super::*;

    fn change(name: &str, before: &[&str], after: &[&str]) -> Change {
        let all = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
        Change {
            what: "answer header".to_owned(),
            name: name.to_owned(),
            before: all(before),
            after: all(after),
        }
    }

    #[test]
    fn of_two_answers_every_header_that_differs_is_told_by_name() {
        let arena = Bump::new();
        let mut one = Overlay::empty(true);
        one.set(b"same", b"1", &arena);
        one.set(b"gone", b"1", &arena);
        let mut other = Overlay::empty(true);
        other.add(b"X-New", b"1", &arena);
        other.add(b"x-new", b"2", &arena);
        other.set(b"Same", b"1", &arena);
        let mut found = Found::new(10);
        found.map("answer header", Some(&one), Some(&other));
        let wanted = [
            change("gone", &["1"], &[]),
            change("x-new", &[], &["1", "2"]),
        ];
        assert_eq!(found.changes, wanted);
    }

    #[test]
    fn of_a_long_value_the_beginning_is_told_and_what_is_behind_it_counts() {
        let mut found = Found::new(4);
        found.text("body", Some(b"12345"), Some(b"12346"));
        assert_eq!(found.changes[0].after, ["1234… (5 bytes)"]);
        assert_eq!(shown(b"1234", 4), "1234");
    }
}
