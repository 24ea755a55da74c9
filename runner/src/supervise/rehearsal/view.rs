//! What the next plugin of a chain would see of a call, and how that changed in a phase.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::request::overlay::Overlay;
use crate::request::state::State;

/// Bytes of a value that are shown.
const SHOWN: usize = 4096;

/// Something that a phase changed: values before and after; none: it was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `header`, `arg`, `path`, `status`, `body`, `response header`, `answer`, `answer header`, `answer body`, `consumer`,
    /// `credential`, `group`, `shared`, `log field`.
    pub what: String,
    /// The name of a header, an argument, a field; empty for what there is one of.
    pub name: String,
    /// Values before.
    pub before: Vec<String>,
    /// Values after.
    pub after: Vec<String>,
}

/// Kind and name → values. The kinds are in the order in which they are shown.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct View(BTreeMap<(usize, String), Vec<String>>);

const KINDS: [&str; 14] = [
    "path",
    "arg",
    "status",
    "header",
    "body",
    "response header",
    "consumer",
    "credential",
    "group",
    "shared",
    "log field",
    "answer",
    "answer header",
    "answer body",
];

impl View {
    /// What there is to see now. Of a body, only one that a plugin has set.
    pub(super) fn of(state: &State<'_>) -> Self {
        let mut view = Self::default();
        let changes = &state.changes;
        view.one("path", changes.path);
        view.one("body", changes.body);
        view.one("consumer", changes.consumer);
        view.one("credential", changes.credential);
        let status = changes.status.map(|status| status.to_string());
        view.one("status", status.as_deref().map(str::as_bytes));
        view.map("header", &changes.headers);
        view.map("arg", &changes.args);
        view.map("response header", &changes.beside);
        view.map("group", &changes.groups);
        view.map("shared", &changes.shared);
        view.map("log field", &changes.log_fields);
        if let Some(answer) = &state.answer {
            view.one("answer", Some(answer.status.to_string().as_bytes()));
            view.map("answer header", &answer.headers);
            view.one(
                "answer body",
                Some(answer.body).filter(|body| !body.is_empty()),
            );
        }
        view
    }

    fn one(&mut self, what: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(what, b"", value);
        }
    }

    fn map(&mut self, what: &str, map: &Overlay<'_>) {
        for entry in map.unchanged().chain(map.changed_entries()) {
            let lower = entry.name.to_ascii_lowercase();
            let name = if what.ends_with("header") {
                &lower
            } else {
                entry.name
            };
            self.put(what, name, entry.value.unwrap_or_default());
        }
    }

    fn put(&mut self, what: &str, name: &[u8], value: &[u8]) {
        let kind = KINDS.iter().position(|kind| *kind == what).unwrap_or(0);
        let name = String::from_utf8_lossy(name).into_owned();
        self.0.entry((kind, name)).or_default().push(shown(value));
    }

    /// What is different in `after`.
    pub(super) fn changes(&self, after: &Self) -> Vec<Change> {
        let mut keys: Vec<_> = self.0.keys().chain(after.0.keys()).collect();
        keys.sort();
        keys.dedup();
        let values = |view: &Self, key| view.0.get(key).cloned().unwrap_or_default();
        let changed = keys
            .into_iter()
            .filter(|key| self.0.get(*key) != after.0.get(*key));
        changed
            .map(|key| Change {
                what: KINDS[key.0].to_owned(),
                name: key.1.clone(),
                before: values(self, key),
                after: values(after, key),
            })
            .collect()
    }
}

fn shown(value: &[u8]) -> String {
    match value.get(..SHOWN) {
        None => String::from_utf8_lossy(value).into_owned(),
        Some(start) => format!(
            "{}… ({} bytes)",
            String::from_utf8_lossy(start),
            value.len()
        ),
    }
}
