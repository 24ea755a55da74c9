//! What became of a call: for people as a diff, phase by phase; for programs as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::{Bound, Sample, bound};
use crate::config::Binding;
use crate::dev::frames::{self, Action, Entry};
use crate::protocol::frame::{self, kind};
use crate::request::step::{Change, Decided, Logged, Step};
use crate::supervise::rehearsal::{Broken, Rehearsed, Timed};

/// Characters of a body that are shown.
const SHOWN: usize = 2000;

/// Everything, for programs.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// `GET /path`
    pub call: String,
    /// Each plugin of the chain, with the reason if it cannot run.
    pub plugins: Vec<Plugin<'a>>,
    /// The bindings that may apply to it.
    pub bound: Vec<Bound>,
    /// What else is to say of it.
    pub note: Option<String>,
    /// What was asked of the gateway before the first phase.
    pub declared: &'a [String],
    /// The phases that ran, in order.
    pub steps: &'a [Step],
    /// What the gateway would do.
    pub outcome: Outcome,
    /// Nanoseconds from the frame to the reply.
    pub took_ns: Option<u64>,
    /// The same call again.
    pub again: Option<Timed>,
    /// Why it did not come to its end.
    pub broken: Option<String>,
}

/// A plugin of the chain.
#[derive(Debug, Serialize)]
pub struct Plugin<'a> {
    /// Its name.
    pub name: &'a str,
    /// Why it cannot run.
    pub refused: Option<&'a str>,
}

/// What the gateway would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Outcome {
    /// The upstream gets the request as it is, or the client the response.
    Pass,
    /// The upstream gets a changed request.
    Change {
        /// `None`: as it was.
        path: Option<String>,
        /// Without a value: removed.
        headers: Vec<(String, Option<String>)>,
        /// Without a value: removed.
        args: Vec<(String, Option<String>)>,
        /// For the client, beside the upstream's.
        response_headers: Vec<(String, Option<String>)>,
        /// `None`: as it was.
        body: Option<String>,
    },
    /// The client gets this: a plugin's answer, or the response as the plugins have left it.
    Answer {
        /// 0: the gateway's default.
        status: u16,
        /// All of them.
        headers: Vec<(String, Option<String>)>,
        /// `None`: the upstream's.
        body: Option<String>,
    },
    /// The client gets 503.
    Error,
}

impl Outcome {
    /// From the frame that the gateway would get; none is an error.
    pub fn of(reply: &[u8]) -> Self {
        let Some((frame, _)) = frame::decode(reply) else {
            return Self::Error;
        };
        match frame.kind {
            kind::HTTP_REQ_CALL => {
                frames::action(frame.payload).map_or(Self::Error, Self::of_action)
            }
            kind::HTTP_RESP_CALL => match frames::response_change(frame.payload) {
                Ok(change) => Self::Answer {
                    status: change.status,
                    headers: pairs(&change.headers),
                    body: body(&change.body),
                },
                Err(_) => Self::Error,
            },
            _ => Self::Error,
        }
    }

    fn of_action(action: Action) -> Self {
        match action {
            Action::None => Self::Pass,
            Action::Stop {
                status,
                headers,
                body: bytes,
            } => Self::Answer {
                status,
                headers: pairs(&headers),
                body: body(&bytes),
            },
            Action::Rewrite(change) => Self::Change {
                path: change.path.map(|path| lossy(&path)),
                headers: pairs(&change.headers),
                args: pairs(&change.args),
                response_headers: pairs(&change.resp_headers),
                body: body(&change.body),
            },
        }
    }
}

fn pairs(entries: &[Entry]) -> Vec<(String, Option<String>)> {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(lossy);
    let entries = entries.iter();
    entries
        .map(|entry| (text(&entry.name).unwrap_or_default(), text(&entry.value)))
        .collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn body(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| lossy(bytes))
}

impl<'a> Report<'a> {
    /// Of a rehearsal with these bindings.
    pub fn of(sample: &Sample, bindings: &[Binding], rehearsed: &'a Rehearsed) -> Self {
        let configured = rehearsed
            .configured
            .iter()
            .flat_map(|configured| &configured.plugins);
        let called = rehearsed.called.as_ref();
        Self {
            call: sample.title(),
            plugins: configured
                .map(|(name, refused)| Plugin {
                    name,
                    refused: refused.as_deref(),
                })
                .collect(),
            bound: bound(bindings, rehearsed.configured.as_ref()),
            note: None,
            declared: called.map_or(&[], |called| &called.declared),
            steps: &rehearsed.steps,
            outcome: Outcome::of(&rehearsed.reply),
            took_ns: called.map(|called| called.took_ns),
            again: rehearsed.timed,
            broken: rehearsed.broken.as_ref().map(reason),
        }
    }
}

fn reason(broken: &Broken) -> String {
    match broken {
        Broken::Refused(refusal) => refusal.cause.clone(),
        Broken::Ended(cause) | Broken::Late(cause) | Broken::Impossible(cause) => cause.clone(),
    }
}

/// For people; `colours` for a terminal.
pub fn text(report: &Report<'_>, colours: bool) -> String {
    let paint = |code: &str, text: String| match colours {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text,
    };
    let mut lines = vec![paint("1", report.call.clone())];
    for plugin in &report.plugins {
        if let Some(refused) = plugin.refused {
            lines.push(paint(
                "31",
                format!("  {} cannot run: {refused}", plugin.name),
            ));
        }
    }
    for bound in &report.bound {
        let text = bound.text();
        lines.push(match bound.refused {
            Some(_) => paint("31", text),
            None => text,
        });
    }
    lines.extend(report.note.iter().map(|note| format!("  note: {note}")));
    if !report.declared.is_empty() {
        lines.push(format!("  asked before: {}", report.declared.join(", ")));
    }
    for step in report.steps {
        let failed = step.decision.is_failure();
        let title = title(step);
        lines.push(if failed { paint("31", title) } else { title });
        let asked = step.asked.iter();
        lines.extend(asked.map(|asked| format!("      asked, undeclared: {asked}")));
        lines.extend(step.logged.iter().map(logged));
        for change in &step.changes {
            lines.extend(removed(change).map(|line| paint("31", line)));
            lines.extend(added(change).map(|line| paint("32", line)));
        }
    }
    lines.extend(
        outcome(&report.outcome)
            .into_iter()
            .enumerate()
            .map(|(at, line)| match at {
                0 => paint("1", line),
                _ => line,
            }),
    );
    lines.extend(times(report));
    lines.join("\n")
}

fn title(step: &Step) -> String {
    let decided = match (step.decision, &step.error) {
        (Decided::Continue, _) if step.phase == "log" => "has logged it".to_owned(),
        (Decided::Continue, _) if step.changes.is_empty() => "goes on, unchanged".to_owned(),
        (Decided::Continue, _) => "goes on".to_owned(),
        (Decided::Answer, _) => "answers".to_owned(),
        // The text of a panic says that it is one.
        (Decided::Panic, Some(error)) => error.clone(),
        (_, error) => format!(
            "fails: {}",
            error.as_deref().unwrap_or("it did not say why")
        ),
    };
    let (phase, plugin, took) = (&step.phase, &step.plugin, nanoseconds(step.took_ns));
    format!("  {phase:<14}{plugin:<20} {took:>9}  {decided}")
}

fn logged(event: &Logged) -> String {
    let message = indented(&event.message, 10);
    let fields = match event.fields.as_str() {
        "" | "{}" => String::new(),
        fields => format!(" {}", indented(fields, 10)),
    };
    format!("      {} {message}{fields}", event.level.name())
}

fn removed(change: &Change) -> impl Iterator<Item = String> + '_ {
    change.before.iter().map(|value| line('-', change, value))
}

fn added(change: &Change) -> impl Iterator<Item = String> + '_ {
    change.after.iter().map(|value| line('+', change, value))
}

fn line(sign: char, change: &Change, value: &str) -> String {
    let Change { what, name, .. } = change;
    let value = indented(value, 10);
    match name.as_str() {
        "" => format!("      {sign} {what} {value}"),
        name => format!("      {sign} {what} {name}: {value}"),
    }
}

fn outcome(outcome: &Outcome) -> Vec<String> {
    let list = |kind: &str, pairs: &[(String, Option<String>)]| -> Vec<String> {
        let line = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("    {kind}{name}: {value}"),
            None => format!("    {kind}{name} removed"),
        };
        pairs.iter().map(line).collect()
    };
    let text = |body: &Option<String>| {
        body.as_ref()
            .map(|body| format!("\n    {}", indented(&shortened(body), 4)))
    };
    match outcome {
        Outcome::Pass => vec!["the request passes unchanged".to_owned()],
        Outcome::Error => vec!["the client gets 503".to_owned()],
        Outcome::Answer {
            status: 0,
            headers,
            body,
        } => {
            let first = vec!["the client gets the upstream's status".to_owned()];
            [first, list("", headers), text(body).into_iter().collect()].concat()
        }
        Outcome::Answer {
            status,
            headers,
            body,
        } => {
            let first = vec![format!("the client gets {status}")];
            [first, list("", headers), text(body).into_iter().collect()].concat()
        }
        Outcome::Change {
            path,
            headers,
            args,
            response_headers,
            body,
        } => {
            let first = vec!["the upstream gets the request with".to_owned()];
            let path = path.iter().map(|path| format!("    path {path}")).collect();
            let body = body
                .iter()
                .map(|body| format!("    body {}", indented(&shortened(body), 4)))
                .collect();
            let beside = list("response header ", response_headers);
            [
                first,
                path,
                list("header ", headers),
                list("arg ", args),
                body,
                beside,
            ]
            .concat()
        }
    }
}

fn times(report: &Report<'_>) -> Option<String> {
    let mut text = String::new();
    if let Some(took) = report.took_ns {
        let _ = write!(text, "took {}", nanoseconds(took));
    }
    if let Some(again) = report.again {
        let (median, slowest) = (nanoseconds(again.median_ns), nanoseconds(again.slowest_ns));
        let _ = write!(
            text,
            "; {} times more: median {median}, slowest {slowest}",
            again.calls
        );
    }
    if let Some(broken) = &report.broken {
        let _ = write!(
            text,
            "{}",
            if text.is_empty() {
                broken.clone()
            } else {
                format!("\n{broken}")
            }
        );
    }
    (!text.is_empty()).then_some(text)
}

fn shortened(body: &str) -> String {
    match body.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} bytes)", &body[..end], body.len()),
        None => body.to_owned(),
    }
}

/// Later lines as far in as the first. No control characters: a terminal would obey them.
fn indented(text: &str, by: usize) -> String {
    let text: String = text
        .trim_end_matches('\n')
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}

/// Time, for people.
pub fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}
