//! A report as people read it. Colours only where they are wanted.

use std::fmt::Write;

use serde_json::Value;

use super::finding::{Finding, Level};
use super::{Called, Report};
use crate::call::{Outcome, nanoseconds};
use crate::plugins::metadata::{About, Needs};

/// Names of symbols that are shown.
const SHOWN: usize = 6;

/// The whole report; `colours` for a terminal.
pub fn text(report: &Report, colours: bool) -> String {
    let paint = Paint(colours);
    let verdict = match (report.serves, report.metadata_only) {
        (true, false) => paint.green("`start` would serve it"),
        (true, true) => paint.green("nothing speaks against it; nothing of it ran"),
        (false, _) => paint.red("`start` would not serve it"),
    };
    let mut text = format!("{}: {verdict}", report.file.display());
    for (name, value) in rows(report) {
        let _ = write!(text, "\n  {name:<10}{value}");
    }
    for finding in &report.findings {
        text += &one(finding, &paint);
    }
    text
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for about in &report.plugins {
        rows.extend(plugin(about));
    }
    if let (Some(rustc), Some(api), Some(abi)) = (&report.rustc, &report.plugin_api, &report.abi) {
        rows.push((
            "built",
            format!("by {rustc}, with plugin-api {api} (ABI {abi})"),
        ));
    }
    if let (Some(target), Some(panic)) = (&report.target, report.panic) {
        rows.push(("for", format!("{target}, panics {panic}")));
    }
    if report.size > 0 {
        let debug = match report.debug_info {
            _ if !report.is_read => String::new(),
            0 => ", no debug information".to_owned(),
            bytes => format!(", {} of it debug information", size(bytes)),
        };
        rows.push(("file", format!("{}{debug}", size(report.size))));
        rows.push(("sha256", report.sha256.clone()));
    }
    if let Some(glibc) = report.glibc {
        rows.push((
            "needs",
            format!("glibc {glibc}; {}", report.needed.join(", ")),
        ));
    }
    if !report.exported.is_empty() {
        let shown: Vec<_> = report
            .exported
            .iter()
            .take(SHOWN)
            .map(String::as_str)
            .collect();
        let more = report.exported.len() - shown.len();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        rows.push(("exports", shown.join(", ") + &more));
    }
    if let Some(took) = report.probe_ms {
        rows.push(("probe", format!("opened, started and dropped in {took} ms")));
    }
    if let Some(schema) = report.schema.as_ref().and_then(keys) {
        rows.push(("conf", schema));
    }
    if let Some(call) = &report.call {
        rows.push(("call", called(call)));
        let bound = call.bound.iter();
        rows.extend(bound.map(|bound| ("", bound.text().trim().to_owned())));
        rows.extend(call.note.iter().map(|note| ("", format!("note: {note}"))));
    }
    rows
}

/// The keys of a configuration; `plugin-runner schema` shows all of it.
fn keys(schema: &Value) -> Option<String> {
    let keys = schema["properties"].as_object()?.keys();
    let needed = schema["required"].as_array().into_iter().flatten();
    let needed: Vec<_> = needed.filter_map(Value::as_str).collect();
    let keys = keys.map(|key| match needed.contains(&key.as_str()) {
        true => format!("{key} (needed)"),
        false => key.clone(),
    });
    Some(keys.collect::<Vec<_>>().join(", "))
}

fn called(call: &Called) -> String {
    let outcome = match &call.outcome {
        Outcome::Pass => "passes unchanged".to_owned(),
        Outcome::Change { .. } => "goes on changed".to_owned(),
        Outcome::Answer { status: 0, .. } => "is answered".to_owned(),
        Outcome::Answer { status, .. } => format!("is answered with {status}"),
        Outcome::Error => "fails: the client gets 503".to_owned(),
    };
    let mut text = format!(
        "{} {outcome} after {}",
        call.call,
        nanoseconds(call.took_ns)
    );
    if let Some(again) = call.again {
        let _ = write!(
            text,
            "; {} times more: median {}",
            again.calls,
            nanoseconds(again.median_ns)
        );
    }
    text
}

fn plugin(about: &About) -> Vec<(&'static str, String)> {
    let mut about_it = format!(
        "{} {}, priority {}",
        about.name, about.version, about.priority
    );
    if about.blocking {
        about_it += ", blocking";
    }
    if about.authenticates {
        about_it += ", authenticates";
    }
    if !about.min_runner.is_empty() {
        about_it += &format!(", needs runner {}", about.min_runner);
    }
    let mut rows = vec![("plugin", about_it)];
    if !about.phases.is_empty() {
        rows.push(("phases", about.phases.join(", ")));
    }
    rows.extend(
        about
            .needs
            .iter()
            .map(|(phase, needs)| ("asks", format!("in {phase}: {}", asked(needs)))),
    );
    rows
}

fn asked(needs: &Needs) -> String {
    let mut all: Vec<_> = needs
        .variables
        .iter()
        .map(|name| format!("variable {name}"))
        .collect();
    all.extend(needs.request_body.then(|| "the request's body".to_owned()));
    all.extend(
        needs
            .response_body
            .then(|| "the response's body".to_owned()),
    );
    all.join(", ")
}

fn one(finding: &Finding, paint: &Paint) -> String {
    let level = match finding.level {
        Level::Error => paint.red(finding.level.name()),
        Level::Warning => paint.yellow(finding.level.name()),
        Level::Note => paint.blue(finding.level.name()),
    };
    let Finding {
        id,
        what,
        means,
        mend,
        ..
    } = finding;
    format!("\n\n{level}: {what} [{id}]\n  {means}\n  mend: {mend}")
}

/// Bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// Puts colours round words, or not.
struct Paint(bool);

impl Paint {
    fn red(&self, text: &str) -> String {
        self.put("1;31", text)
    }

    fn yellow(&self, text: &str) -> String {
        self.put("1;33", text)
    }

    fn green(&self, text: &str) -> String {
        self.put("1;32", text)
    }

    fn blue(&self, text: &str) -> String {
        self.put("1;34", text)
    }

    fn put(&self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
