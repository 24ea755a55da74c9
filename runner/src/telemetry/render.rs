//! One record as one line: text, coloured text or JSON. Pure, but for the clock. No byte that a
//! client, a plugin or the gateway chose reaches the line unescaped.

use std::fmt::Write;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::Style;
use crate::config::Level;

/// What a line says.
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) target: String,
    pub(super) message: String,
    pub(super) fields: Fields,
    /// What a plugin added to its event. Kept apart: its names may be ours.
    own: Map<String, Value>,
}

/// Names and values, in the order in which they came.
#[derive(Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Adds a value, or replaces the one of that name: an event knows better than its span.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.set(name, value.clone());
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }
}

impl Record {
    /// A record without fields. The crate's own name is left out of targets.
    pub(super) fn new(level: Level, target: &str, message: String) -> Self {
        let target = target.strip_prefix("plugin_runner::").unwrap_or(target);
        Self {
            level,
            target: target.to_owned(),
            message,
            fields: Fields::default(),
            own: Map::new(),
        }
    }

    /// Unpacks what `plugin_event` packed: target and fields that are known at run time only.
    pub(super) fn is_plugins_own(&mut self) {
        if let Some(Value::String(target)) = self.fields.take("source") {
            self.target = target;
        }
        if self.fields.get("at").is_some_and(|place| place == "") {
            self.fields.take("at");
        }
        self.unpack_fields();
    }

    /// Unpacks fields whose names are known at run time only.
    pub(super) fn unpack_fields(&mut self) {
        let Some(Value::String(fields)) = self.fields.take("fields") else {
            return;
        };
        match serde_json::from_str(&fields) {
            Ok(Value::Object(fields)) => self.own = fields,
            _ if fields.is_empty() => {}
            // Cut, or not JSON: shown as it came.
            _ => self.fields.set("fields", fields.into()),
        }
    }
}

/// The line, without its line break.
pub(super) fn line(record: &Record, style: Style) -> String {
    match style {
        Style::Json => json(record),
        Style::Text => text(record, &PLAIN),
        Style::Terminal => text(record, &COLOURED),
    }
}

/// RFC 3339, UTC, milliseconds.
fn now() -> String {
    let mut time = String::with_capacity(32);
    // The clock writes microseconds and `Z`; writing to a String does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time.truncate("2026-01-01T00:00:00.000".len());
    time.push('Z');
    time
}

fn json(record: &Record) -> String {
    // Strings, numbers and maps with text keys: nothing here that JSON refuses.
    serde_json::to_string(&JsonLine(record)).unwrap_or_default()
}

/// With our four names first, where people look.
struct JsonLine<'a>(&'a Record);

impl Serialize for JsonLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Record {
            level,
            target,
            message,
            fields,
            own,
        } = self.0;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("time", &now())?;
        line.serialize_entry("level", name(*level))?;
        line.serialize_entry("target", target)?;
        line.serialize_entry("message", message)?;
        for (name, value) in &fields.0 {
            match *name {
                // Of some library's event; a name may not come twice.
                "time" | "level" | "target" => line.serialize_entry(&format!("{name}_"), value)?,
                name => line.serialize_entry(name, value)?,
            }
        }
        if !own.is_empty() {
            line.serialize_entry("fields", own)?;
        }
        line.end()
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The escape sequences of a style.
struct Paint {
    dim: &'static str,
    off: &'static str,
    levels: [&'static str; 5],
    /// What a line break in the message becomes.
    line_break: &'static str,
}

const PLAIN: Paint = Paint {
    dim: "",
    off: "",
    levels: [""; 5],
    line_break: "\\n",
};

const COLOURED: Paint = Paint {
    dim: "\x1b[2m",
    off: "\x1b[0m",
    levels: ["\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[34m", "\x1b[35m"],
    line_break: "\n    ",
};

fn text(record: &Record, paint: &Paint) -> String {
    let Paint { dim, off, .. } = paint;
    let colour = paint.levels[record.level as usize - 1];
    let level = name(record.level).to_ascii_uppercase();
    let mut line = format!("{dim}{}{off} {colour}{level:>5}{off} {dim}", now());
    if let Some(Value::String(plugin)) = record.fields.get("plugin") {
        escape(&mut line, plugin, "\\n");
        line.push(' ');
    }
    escape(&mut line, &record.target, "\\n");
    let _ = write!(line, ":{off} ");
    escape(&mut line, &record.message, paint.line_break);
    let fields = record.fields.0.iter();
    let fields = fields.map(|(name, value)| (*name, value));
    let own = record
        .own
        .iter()
        .map(|(name, value)| (name.as_str(), value));
    for (name, value) in fields.chain(own).filter(|(name, _)| *name != "plugin") {
        let _ = write!(line, " {dim}");
        escape(&mut line, name, "\\n");
        let _ = write!(line, "={off}");
        value_text(&mut line, value, paint);
    }
    line
}

fn value_text(line: &mut String, value: &Value, paint: &Paint) {
    match value {
        Value::String(text) if is_bare(text) => line.push_str(text),
        // On a terminal a long text is read, not parsed.
        Value::String(text) if paint.line_break != "\\n" && text.contains('\n') => {
            line.push_str(paint.line_break);
            escape(line, text.trim_end(), paint.line_break);
        }
        Value::String(text) => {
            let _ = write!(line, "{text:?}");
        }
        other => {
            let _ = write!(line, "{other}");
        }
    }
}

/// Whether a text can stand without quotes.
fn is_bare(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"\"'=\\".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// Appends `text` with its control characters made visible.
fn escape(line: &mut String, text: &str, line_break: &str) {
    for c in text.chars() {
        match c {
            '\n' => line.push_str(line_break),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
}
