//! One value of the file on its way to its type. A value that does not fit leaves a fault and
//! `None`, so that the next one is looked at all the same.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use saphyr::Scalar;

use super::fault::{Fault, Position};
use super::names::Named;
use super::units;
use super::yaml::{Kind, Node};

/// The notation for an environment variable in place of a text.
const VARIABLE: &str = "$env.";

/// What all fields of one file share.
pub(super) struct Context<'a> {
    pub(super) file: &'a Path,
    pub(super) env: &'a dyn Fn(&str) -> Option<OsString>,
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Where each key stands that was set.
    pub(super) places: RefCell<BTreeMap<String, Position>>,
}

/// A value and the key it belongs to.
pub(super) struct Field<'a> {
    /// With its sections: `socket.file`, `plugins.settings.NAME`.
    pub(super) name: String,
    pub(super) node: &'a Node,
    pub(super) context: &'a Context<'a>,
}

/// A scalar after its variable was looked up.
struct Word {
    text: String,
    /// May be read as a number or boolean: not in quotes.
    plain: bool,
    from_env: bool,
}

impl Context<'_> {
    pub(super) fn fault(&self, at: Position, message: String) {
        self.faults.borrow_mut().push(Fault {
            file: Some(self.file.to_owned()),
            position: Some(at),
            message,
        });
    }

    /// The value that `$env.NAME` stands for; `None` and a fault if there is none.
    fn variable(&self, at: Position, notation: &str) -> Option<String> {
        let name = notation.strip_prefix(VARIABLE)?;
        match (self.env)(name).map(OsString::into_string) {
            Some(Ok(value)) => Some(value),
            Some(Err(_)) => {
                self.fault(at, format!("environment variable `{name}` is not UTF-8"));
                None
            }
            None => {
                self.fault(at, format!("environment variable `{name}` is not set"));
                None
            }
        }
    }

    /// The entries of a mapping without the second of two equal keys, which is a fault.
    pub(super) fn entries<'n>(
        &self,
        pairs: &'n [(Node, Node)],
    ) -> Vec<(&'n str, &'n Node, &'n Node)> {
        let mut seen = BTreeMap::new();
        let mut entries = Vec::new();
        for (key, value) in pairs {
            let Kind::Scalar { text, .. } = &key.kind else {
                self.fault(
                    key.at,
                    format!("a key must be text, not {}", key.described()),
                );
                continue;
            };
            if let Some(first) = seen.insert(text.as_str(), key.at.line) {
                let message = format!("`{text}` is given twice, first in line {first}");
                self.fault(key.at, message);
                continue;
            }
            entries.push((text.as_str(), key, value));
        }
        entries
    }
}

impl<'a> Field<'a> {
    /// A text that is not empty.
    pub(super) fn text(&self) -> Option<String> {
        let word = self.word("text")?;
        if !word.from_env && !matches!(self.node.scalar(), Some(Scalar::String(_))) {
            let found = self.node.described();
            return self.refuse(format!("must be text, not {found}: put it in quotes"));
        }
        self.not_empty(word.text)
    }

    /// The name or number of a user or group.
    pub(super) fn id(&self) -> Option<String> {
        let word = self.word("a name or id")?;
        self.not_empty(word.text)
    }

    /// A path, absolute: a relative one starts at the file's folder.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        Some(
            self.context
                .file
                .parent()
                .unwrap_or(Path::new("/"))
                .join(text),
        )
    }

    /// One of the names of `T`.
    pub(super) fn named<T: Named>(&self) -> Option<T> {
        let choices = T::CHOICES;
        let word = self.word(choices)?;
        let named = T::named(&word.text);
        named.or_else(|| self.refuse(format!("is `{}`; it must be {choices}", word.text)))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        let word = self.word("true or false")?;
        match word.text.as_str() {
            "true" | "True" | "TRUE" if word.plain => Some(true),
            "false" | "False" | "FALSE" if word.plain => Some(false),
            text => self.refuse(format!("is `{text}`; it must be true or false")),
        }
    }

    /// A whole number from `least` to `most`, both included.
    pub(super) fn number(&self, least: usize, most: usize) -> Option<usize> {
        let word = self.word("a whole number")?;
        let number = word.text.replace('_', "").parse::<usize>().ok();
        match number.filter(|number| word.plain && (least..=most).contains(number)) {
            None => {
                let text = word.text;
                self.refuse(format!(
                    "is `{text}`; it must be a whole number from {least} to {most}"
                ))
            }
            number => number,
        }
    }

    /// A duration from 1 ms to `most`, both included.
    pub(super) fn duration(&self, most: Duration) -> Option<Duration> {
        let word = self.word("a duration such as `10s`")?;
        let Some(duration) = units::duration(&word.text) else {
            let text = word.text;
            return self.refuse(format!(
                "is `{text}`; write a duration such as `10s`, `500ms`, `2m`, `1h`"
            ));
        };
        if duration < Duration::from_millis(1) || duration > most {
            let (text, most) = (word.text, most.as_secs());
            return self.refuse(format!("is `{text}`; it must be from 1ms to {most}s"));
        }
        Some(duration)
    }

    /// A number of bytes, `least` or more.
    pub(super) fn size(&self, least: u64) -> Option<u64> {
        let word = self.word("a size such as `512MiB`")?;
        let text = word.text;
        match units::size(&text) {
            None => self.refuse(format!(
                "is `{text}`; write a size such as `512MiB`, `2GiB`"
            )),
            Some(size) if size < least => {
                let least = least >> 20;
                self.refuse(format!("is `{text}`; it must be {least}MiB or more"))
            }
            size => size,
        }
    }

    /// Permission bits.
    pub(super) fn mode(&self) -> Option<u32> {
        let text = self.word("octal permission bits such as 0766")?.text;
        let mode = units::mode(&text);
        mode.or_else(|| {
            self.refuse(format!(
                "is `{text}`; write octal permission bits such as 0766"
            ))
        })
    }

    /// Each item of a list, read by `read`. A list with a fault in it is still read to its end.
    pub(super) fn list<T>(&self, read: impl Fn(&Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        let Kind::List(items) = &self.node.kind else {
            return self.refuse(format!("must be a list, not {}", self.node.described()));
        };
        let item = |(index, node)| read(&self.below(format!("[{index}]"), node));
        let read: Vec<_> = items.iter().enumerate().map(item).collect();
        read.into_iter().collect()
    }

    /// Each value of a mapping by its name, read by `read`.
    pub(super) fn map<T>(
        &self,
        read: impl Fn(&Field<'a>) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        let Kind::Map(pairs) = &self.node.kind else {
            return self.refuse(format!("must be a mapping, not {}", self.node.described()));
        };
        let entry = |(name, _, node): (&str, _, &'a Node)| {
            Some((
                name.to_owned(),
                read(&self.below(format!(".{name}"), node))?,
            ))
        };
        let entries = self.context.entries(pairs);
        let read: Vec<_> = entries.into_iter().map(entry).collect();
        read.into_iter().collect()
    }

    /// Any value, as JSON.
    pub(super) fn json(&self) -> Option<serde_json::Value> {
        match &self.node.kind {
            Kind::List(_) => Some(self.list(Self::json)?.into()),
            Kind::Map(_) => Some(serde_json::Value::Object(
                self.map(Field::json)?.into_iter().collect(),
            )),
            Kind::Scalar { text, .. } => {
                if text.starts_with(VARIABLE) {
                    return Some(self.word("")?.text.into());
                }
                match (text.parse::<u64>(), self.node.scalar()?) {
                    (_, Scalar::Null) => Some(serde_json::Value::Null),
                    (_, Scalar::Boolean(flag)) => Some(flag.into()),
                    (_, Scalar::Integer(number)) => Some(number.into()),
                    // Above i64::MAX the scalar is a float, and would lose digits.
                    (Ok(number), Scalar::FloatingPoint(_)) => Some(number.into()),
                    (_, Scalar::FloatingPoint(number)) if number.is_finite() => {
                        Some(number.into_inner().into())
                    }
                    (_, Scalar::FloatingPoint(_)) => {
                        self.refuse(format!("is `{text}`, which JSON cannot say"))
                    }
                    (_, Scalar::String(text)) => Some(text.into_owned().into()),
                }
            }
        }
    }

    /// Adds a fault here. `complaint` goes on where the key's name ends.
    pub(super) fn refuse<T>(&self, complaint: String) -> Option<T> {
        let message = format!("`{}` {complaint}", self.name);
        self.context.fault(self.node.at, message);
        None
    }

    fn below(&self, suffix: String, node: &'a Node) -> Field<'a> {
        Field {
            name: format!("{}{suffix}", self.name),
            node,
            context: self.context,
        }
    }

    fn not_empty(&self, text: String) -> Option<String> {
        if text.is_empty() {
            return self.refuse("is empty: give it a value or leave it out".into());
        }
        Some(text)
    }

    fn word(&self, needed: &str) -> Option<Word> {
        let Kind::Scalar { text, plain } = &self.node.kind else {
            return self.refuse(format!("must be {needed}, not {}", self.node.described()));
        };
        if text.starts_with(VARIABLE) {
            let text = self.context.variable(self.node.at, text)?;
            return Some(Word {
                text,
                plain: true,
                from_env: true,
            });
        }
        if self.node.is_null() {
            return self.refuse(format!("must be {needed}, not nothing"));
        }
        Some(Word {
            text: text.clone(),
            plain: *plain,
            from_env: false,
        })
    }
}
