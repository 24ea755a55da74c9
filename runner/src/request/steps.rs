//! What each plugin did in a call, step by step, as lines of the log: for `dev`, which starts the runner with
//! `--steps`. Off otherwise, and then one atomic load a call. Never changes a call.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::overlay::Overlay;
use super::state::{Answer, Changes, State};
use crate::plugins::generation::phase_name;
use crate::plugins::instance::Decision;
use crate::telemetry::STEP_TARGET;

static ON: AtomicBool = AtomicBool::new(false);

/// Calls in a second whose steps are told; a load test needs none of them.
const CALLS_A_SECOND: u32 = 100;
/// Bytes of a value that are told.
const MAX_VALUE: usize = 300;
/// Changes of a step that are told.
const MAX_CHANGES: usize = 20;
/// Bytes of a step: less than the log cuts a field at.
const MAX_STEP: usize = 12 << 10;

/// One phase of one plugin in one call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    /// The plugin's name.
    pub plugin: String,
    /// Number of the generation that ran.
    pub generation: u64,
    /// Name of the phase.
    pub phase: String,
    /// `continue`, `answer` or `failed`.
    pub decision: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Microseconds in the plugin.
    pub took_us: u64,
    /// What is different after it.
    pub changes: Vec<Change>,
    /// What it answered.
    pub answer: Option<Told>,
    /// There were more changes than are told.
    pub cut: bool,
}

/// A value that a plugin has changed. No values: it was, or is now, absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// `header`, `argument`, `response header`, `path`, `status`, `body`, `consumer`, `shared`, `log field`, …
    pub what: String,
    /// Its name, if there are several of that kind.
    pub name: String,
    pub from: Vec<String>,
    pub to: Vec<String>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// 0: the gateway's default.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// Its beginning.
    pub body: String,
}

/// A step that is being watched.
pub struct Watched<'c> {
    before: Changes<'c>,
    started: Instant,
}

/// From now on, in this process.
pub fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether the steps of the next call are told.
#[inline]
pub fn wanted() -> bool {
    ON.load(Ordering::Relaxed) && admitted()
}

/// One window of a second at a time.
fn admitted() -> bool {
    static WINDOW: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut window = WINDOW.lock().unwrap_or_else(PoisonError::into_inner);
    let (started, calls) = window.get_or_insert_with(|| (Instant::now(), 0));
    if started.elapsed() >= Duration::from_secs(1) {
        (*started, *calls) = (Instant::now(), 0);
    }
    *calls += 1;
    *calls <= CALLS_A_SECOND
}

/// Before a plugin runs a phase.
pub fn begin<'c>(state: &State<'c>) -> Option<Watched<'c>> {
    state.steps.then(|| Watched {
        before: state.changes.clone(),
        started: Instant::now(),
    })
}

impl Watched<'_> {
    /// After it.
    pub fn end(self, plugin: &str, state: &State<'_>, decision: Decision) {
        let took = self.started.elapsed();
        let mut changes = differences(&self.before, &state.changes);
        let cut = changes.len() > MAX_CHANGES;
        changes.truncate(MAX_CHANGES);
        let mut step = Step {
            plugin: plugin.to_owned(),
            generation: state.running.generation,
            phase: phase_name(state.running.phase).to_owned(),
            decision: word(decision).to_owned(),
            error: state.error.map(shown),
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            changes,
            answer: match decision {
                Decision::Respond => state.answer.as_ref().map(told),
                _ => None,
            },
            cut,
        };
        let id = state.message.id();
        let mut text = serde_json::to_string(&step).unwrap_or_default();
        if text.len() > MAX_STEP {
            (step.changes, step.answer, step.cut) = (Vec::new(), None, true);
            text = serde_json::to_string(&step).unwrap_or_default();
        }
        tracing::info!(target: STEP_TARGET, id, step = text, "step");
    }
}

/// After the last step of a call.
pub fn over(state: &State<'_>) {
    if state.steps {
        tracing::info!(target: STEP_TARGET, id = state.message.id(), "over");
    }
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Continue => "continue",
        Decision::Respond => "answer",
        Decision::Failed { .. } => "failed",
    }
}

fn differences(before: &Changes<'_>, after: &Changes<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    let maps = [
        ("header", &before.headers, &after.headers),
        ("argument", &before.args, &after.args),
        ("response header", &before.beside, &after.beside),
        ("group", &before.groups, &after.groups),
        ("shared", &before.shared, &after.shared),
        ("log field", &before.log_fields, &after.log_fields),
    ];
    for (what, before, after) in maps {
        entries(what, before, after, &mut found);
    }
    let texts = [
        ("path", before.path, after.path),
        ("body", before.body, after.body),
        ("consumer", before.consumer, after.consumer),
        ("credential", before.credential, after.credential),
    ];
    for (what, before, after) in texts {
        let text = |value: Option<&[u8]>| value.map(shown).into_iter().collect();
        if before != after {
            found.push(change(what, "", text(before), text(after)));
        }
    }
    if before.status != after.status {
        let text = |value: Option<u16>| value.map(|status| status.to_string());
        let (from, to) = (text(before.status), text(after.status));
        let change = change(
            "status",
            "",
            from.into_iter().collect(),
            to.into_iter().collect(),
        );
        found.push(change);
    }
    found
}

fn entries(what: &str, before: &Overlay<'_>, after: &Overlay<'_>, found: &mut Vec<Change>) {
    for changed in after.changes() {
        let values = (0..).map_while(|nth| before.get(changed.name, nth));
        let from: Vec<_> = values.collect();
        if from[..] != changed.values[..] {
            let text = |values: &[Option<&[u8]>]| {
                let values = values.iter().map(|value| shown(value.unwrap_or_default()));
                values.collect::<Vec<_>>()
            };
            let name = shown(changed.name);
            found.push(change(what, &name, text(&from), text(&changed.values)));
        }
    }
}

fn change(what: &str, name: &str, from: Vec<String>, to: Vec<String>) -> Change {
    let (what, name) = (what.to_owned(), name.to_owned());
    Change {
        what,
        name,
        from,
        to,
    }
}

fn told(answer: &Answer<'_>) -> Told {
    let headers = answer.headers.changed_entries().take(MAX_CHANGES);
    let text = |value: Option<&[u8]>| shown(value.unwrap_or_default());
    Told {
        status: answer.status,
        headers: headers
            .map(|entry| (shown(entry.name), text(entry.value)))
            .collect(),
        body: shown(answer.body),
    }
}

/// The beginning of a value, as text.
fn shown(bytes: &[u8]) -> String {
    let kept = &bytes[..bytes.len().min(MAX_VALUE)];
    let mut text = String::from_utf8_lossy(kept).into_owned();
    if bytes.len() > MAX_VALUE {
        text.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    text
}
