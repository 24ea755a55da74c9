//! The line that is logged about a call when it is over: at info if plugins have added fields to it, else at debug.

use serde_json::{Map, Value};

use super::end::End;
use super::hook::Hook;
use super::overlay::Overlay;
use crate::telemetry::CALL_TARGET;

/// What the line says.
#[derive(Debug)]
pub struct Line<'a> {
    /// The gateway's number of the call.
    pub id: u32,
    /// The gateway's key of the chain.
    pub route_key: &'a str,
    /// Where it called from.
    pub hook: Hook,
    /// The plugin that ended the call.
    pub plugin: Option<&'a str>,
    /// How it ended.
    pub end: &'a End,
    /// JSON object of what plugins have added; empty when they added nothing.
    pub fields: String,
}

/// Whether a call without fields gets a line.
pub fn is_wanted() -> bool {
    tracing::enabled!(target: CALL_TARGET, tracing::Level::DEBUG)
}

macro_rules! emit {
    ($level:ident, $line:ident) => {
        tracing::event!(
            target: CALL_TARGET,
            tracing::Level::$level,
            id = $line.id,
            route_key = $line.route_key,
            hook = $line.hook.name(),
            action = $line.end.action_name(),
            ended = $line.end.ended_name(),
            by = $line.plugin,
            status = (($line.end.status != 0).then_some($line.end.status)),
            took = ?$line.end.took,
            fields = $line.fields.as_str(),
            "over"
        )
    };
}

/// Writes it.
pub fn write(line: &Line<'_>) {
    if line.fields.is_empty() {
        emit!(DEBUG, line);
    } else {
        emit!(INFO, line);
    }
}

/// Fields as a JSON object: the last value of a name, bytes that are not UTF-8 replaced. Empty when there are none.
pub fn fields(added: &Overlay<'_>) -> String {
    if added.changes().is_empty() {
        return String::new();
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = added.changed_entries().map(|entry| {
        let value = Value::from(text(entry.value.unwrap_or_default()));
        (text(entry.name), value)
    });
    Value::Object(fields.collect::<Map<_, _>>()).to_string()
}
