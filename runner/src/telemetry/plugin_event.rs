//! Events that a plugin logged, under its name. A tracing event has its level and target at
//! compile time, a plugin's has them at run time: one callsite per level bridges that.

use std::fmt;

use crate::config::Level;

/// The target of the callsites here; `layer` puts the plugin's own in its place.
pub(super) const TARGET: &str = "plugin_runner::plugin";

/// What a plugin logged.
#[derive(Clone, Copy, Debug)]
pub struct PluginEvent<'a> {
    pub level: Level,
    /// The plugin's name.
    pub plugin: &'a str,
    /// The plugin's own target, a module path as a rule.
    pub target: &'a str,
    pub message: &'a str,
    /// A JSON object; may be empty.
    pub fields: &'a str,
    /// Where in the plugin's source; may be empty.
    pub file: &'a str,
    /// 0 if it is not known.
    pub line: u32,
}

/// `src/limits.rs:7`; nothing if the file is not known.
struct Place<'a>(&'a str, u32);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self("", _) => Ok(()),
            Self(file, 0) => f.write_str(file),
            Self(file, line) => write!(f, "{file}:{line}"),
        }
    }
}

macro_rules! emit {
    ($level:ident, $event:ident) => {
        tracing::event!(
            target: TARGET,
            tracing::Level::$level,
            plugin = $event.plugin,
            source = $event.target,
            fields = $event.fields,
            at = %Place($event.file, $event.line),
            "{}",
            $event.message
        )
    };
}

/// Logs it inside the span that the thread is in. Costs an atomic load if the level is off.
pub fn plugin_event(event: PluginEvent<'_>) {
    match event.level {
        Level::Error => emit!(ERROR, event),
        Level::Warn => emit!(WARN, event),
        Level::Info => emit!(INFO, event),
        Level::Debug => emit!(DEBUG, event),
        Level::Trace => emit!(TRACE, event),
    }
}
