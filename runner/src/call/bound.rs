//! The bindings that may apply to a call, and which of their plugins cannot run. Decides nothing: calls do.

use serde::Serialize;

use crate::config::Binding;
use crate::supervise::rehearsal::Configured;

/// A binding that may apply: which one does depends on the others and on who the consumer is.
#[derive(Debug, Serialize)]
pub struct Bound {
    /// The plugin.
    pub plugin: String,
    /// Its line in the file.
    pub line: usize,
    /// `route r1, consumer anna`
    pub scope: String,
    /// Why the plugin cannot run with it.
    pub refused: Option<String>,
}

/// All of them, in the order of the file.
pub fn bound(bindings: &[Binding], configured: Option<&Configured>) -> Vec<Bound> {
    let refusals = configured.map_or(&[][..], |configured| &configured.bound);
    let refusals = refusals.iter().cloned().chain(std::iter::repeat(None));
    let bindings = bindings.iter().zip(refusals);
    bindings
        .map(|(binding, refused)| Bound {
            plugin: binding.plugin.clone(),
            line: binding.line,
            scope: binding.scope.to_string(),
            refused,
        })
        .collect()
}

impl Bound {
    /// For people.
    pub fn text(&self) -> String {
        let Self {
            plugin,
            line,
            scope,
            refused,
        } = self;
        match refused {
            None => format!("  bound: {plugin} to {scope} (line {line})"),
            Some(reason) => {
                format!("  {plugin}, bound to {scope} (line {line}), cannot run: {reason}")
            }
        }
    }
}
