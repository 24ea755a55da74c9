//! Events of plugins on their way into the runner's log, under the plugin's name.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::{OnceLock, PoisonError, RwLock};

use crate::config::Level;
use crate::plugins::blame;
use crate::plugins::generation::phase_name;
use crate::telemetry::{PluginEvent, plugin_event};

/// One event, as the plugin sent it.
#[derive(Debug)]
pub struct Line<'a> {
    /// Number of the generation.
    pub generation: u64,
    /// 1 error … 5 trace.
    pub level: u32,
    /// Line in `file`; 0 when unknown.
    pub line: u32,
    /// Module path, or what the author named.
    pub target: &'a [u8],
    /// The text.
    pub message: &'a [u8],
    /// JSON object; may be empty.
    pub fields: &'a [u8],
    /// Source file; may be empty.
    pub file: &'a [u8],
    /// (id, route key, phase) of the call that runs on this thread.
    pub call: Option<(u32, String, u32)>,
}

/// Names of generations: a plugin may log before it is known to the registry, and after it has left.
fn names() -> &'static RwLock<HashMap<u64, Arc<str>>> {
    static NAMES: OnceLock<RwLock<HashMap<u64, Arc<str>>>> = OnceLock::new();
    NAMES.get_or_init(RwLock::default)
}

/// Says what the events of a generation are logged under. Its code stays mapped, so the name stays too.
pub fn introduce(generation: u64, name: &str) {
    names()
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(generation, name.into());
}

/// Logs an event. Any thread.
pub fn forward(line: &Line<'_>) {
    let name = names()
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&line.generation)
        .cloned();
    let name = name.as_deref().unwrap_or("unknown");
    let _entered = span(line).entered();
    plugin_event(PluginEvent {
        level: level(line.level),
        plugin: name,
        target: &String::from_utf8_lossy(line.target),
        message: &String::from_utf8_lossy(line.message),
        fields: &String::from_utf8_lossy(line.fields),
        file: &String::from_utf8_lossy(line.file),
        line: line.line,
    });
}

/// What every event of a plugin carries beside its name. Outside of a call there is no request id; the route key of a conf
/// that is configured stands in a span around that.
fn span(line: &Line<'_>) -> tracing::Span {
    let generation = line.generation;
    match &line.call {
        Some((id, route_key, phase)) => {
            let phase = phase_name(*phase);
            tracing::info_span!("call", id, route_key, phase, generation)
        }
        None => {
            let phase = blame::doing(generation);
            tracing::info_span!("plugin", phase, generation)
        }
    }
}

/// The level that a plugin means.
pub fn level(number: u32) -> Level {
    match number {
        0 | 1 => Level::Error,
        2 => Level::Warn,
        3 => Level::Info,
        4 => Level::Debug,
        _ => Level::Trace,
    }
}
