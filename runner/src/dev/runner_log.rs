//! Reads what the runner that we have started writes: its log as JSON lines, and whatever else comes. Passes it on to
//! people and to the journal.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::journal::{Journal, Kind};
use super::screen::{Screen, tell};
use crate::request::step::Step;

/// Fields that say nothing to somebody who develops a plugin.
const SKIPPED: [&str; 5] = ["time", "level", "target", "message", "route_key"];

/// Reads on a thread of its own until the runner and all its processes have closed their end.
///
/// # Errors
/// There can be no thread.
pub(super) fn follow(
    output: PipeReader,
    screen: Screen,
    journal: Arc<Journal>,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("runner log".to_owned());
    thread.spawn(move || {
        let mut lines = BufReader::new(output).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            take(&line, screen, &journal);
        }
    })?;
    Ok(())
}

fn take(line: &[u8], screen: Screen, journal: &Journal) {
    let Ok(Value::Object(event)) = serde_json::from_slice(line) else {
        return tell(&String::from_utf8_lossy(line));
    };
    if event.get("target").is_some_and(|target| target == "step") {
        return step(&event, journal);
    }
    let (kind, text) = (kind(&event), text(&event));
    screen.note(kind, &text);
    if kind != Kind::Info {
        journal.note(kind, &text);
    }
}

fn step(event: &Map<String, Value>, journal: &Journal) {
    let call = event.get("id").and_then(Value::as_u64);
    let Some(call) = call.and_then(|call| u32::try_from(call).ok()) else {
        return;
    };
    match event.get("step").and_then(Value::as_str) {
        // One that cannot be read is of another build.
        Some(text) => {
            if let Ok(step) = serde_json::from_str::<Step>(text) {
                journal.step(call, Some(step));
            }
        }
        None => journal.step(call, None),
    }
}

fn kind(event: &Map<String, Value>) -> Kind {
    let level = event.get("level").and_then(Value::as_str);
    let message = event.get("message").and_then(Value::as_str);
    match level {
        Some("error") => Kind::Fault,
        Some("warn") => Kind::Warning,
        _ if message.is_some_and(|text| text.contains(" serves: generation ")) => Kind::Swap,
        _ => Kind::Info,
    }
}

/// The plugin, the message, then the fields.
fn text(event: &Map<String, Value>) -> String {
    let word = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = match word("plugin") {
        "" => word("message").to_owned(),
        plugin => format!("{plugin}: {}", word("message")),
    };
    let shown = |name: &str| name != "plugin" && !SKIPPED.contains(&name);
    for (name, value) in event.iter().filter(|(name, _)| shown(name)) {
        match value {
            Value::Null => {}
            Value::String(value) => text.push_str(&format!("  {name}: {value}")),
            value => text.push_str(&format!("  {name}: {value}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_line_of_the_log_is_told_without_what_nobody_needs() {
        let line = event(
            r#"{"time":"t","level":"warn","target":"x","message":"it is slow","plugin":"p","ms":5,"route_key":"r"}"#,
        );
        assert_eq!(kind(&line), Kind::Warning);
        assert_eq!(text(&line), "p: it is slow  ms: 5");
        let line = event(r#"{"level":"info","message":"p 0.1.0 serves: generation 2, p.so"}"#);
        assert_eq!(kind(&line), Kind::Swap);
    }

    #[test]
    fn steps_go_to_the_journal_and_nowhere_else() {
        let journal = Journal::new(true);
        let screen = Screen::of_process();
        take(
            br#"{"level":"info","target":"step","message":"step","id":3,"step":"{\"plugin\":\"p\"}"}"#,
            screen,
            &journal,
        );
        take(br#"{"target":"step","id":3}"#, screen, &journal);
        take(br#"{"target":"step","step":"{}"}"#, screen, &journal);
        assert!(journal.lately().1.is_empty());
    }
}
