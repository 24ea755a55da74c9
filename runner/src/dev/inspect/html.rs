//! The page as text. Everything that comes from a plugin, a client or the runner is escaped.

use std::fmt::{Display, Write as _};

use super::Facts;
use crate::dev::journal::{Hook, Kind, Note, Told, now};
use crate::request::step::{Change, Step};
use crate::supervise::admin::message::{Plugin, Status};

/// Head and foot, around `<!--part-->`.
const FRAME: &str = include_str!("page.html");

/// The whole document.
pub(super) fn page(facts: &Facts) -> String {
    FRAME.replace("<!--part-->", &part(facts))
}

/// What changes in it.
pub(super) fn part(facts: &Facts) -> String {
    let mut out = String::new();
    match &facts.runner {
        Ok(status) => plugins(&mut out, status),
        Err(reason) => put(
            &mut out,
            format_args!("<p class=warning>{}</p>", Escaped(reason)),
        ),
    }
    requests(&mut out, &facts.requests);
    notes(&mut out, &facts.notes);
    out
}

fn plugins(out: &mut String, status: &Status) {
    let worker = status.worker.as_ref();
    let ready = if status.ready { "ready" } else { "not ready" };
    put(
        out,
        format_args!(
            "<p>plugin-runner {} is {ready}",
            Escaped(&status.runner.version)
        ),
    );
    if let Some(worker) = worker {
        put(
            out,
            format_args!("; worker {} (number {})", worker.pid, worker.number),
        );
    }
    out.push_str(
        "</p><h2>Plugins</h2><table id=plugins><thead><tr><th>plugin<th>version<th>generation<th>state<th>file\
         <th>routes<th>phases run<th>errors<th>loaded</tr></thead><tbody>",
    );
    for each in &status.plugins {
        plugin(out, each);
    }
    if status.plugins.is_empty() {
        out.push_str("<tr><td colspan=9>none</tr>");
    }
    out.push_str("</tbody></table>");
    for library in &status.libraries {
        if let Some(cause) = &library.cause {
            let file = library.file.display().to_string();
            let hint = library.hint.as_deref().unwrap_or_default();
            put(
                out,
                format_args!(
                    "<p class=error><b>{}</b> is {}: {}<br>{}</p>",
                    Escaped(&file),
                    Escaped(&library.state),
                    Escaped(cause),
                    Escaped(hint)
                ),
            );
        }
    }
}

fn plugin(out: &mut String, plugin: &Plugin) {
    let file = plugin
        .file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let state = match plugin.retained.generations {
        0 => plugin.state.clone(),
        earlier => format!("{} ({earlier} earlier in memory)", plugin.state),
    };
    put(
        out,
        format_args!(
            "<tr><td><b>{}</b><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}</tr>",
            Escaped(&plugin.name),
            Escaped(&plugin.version),
            plugin.generation,
            Escaped(&state),
            Escaped(&file),
            plugin.confs,
            plugin.calls,
            plugin.errors,
            Ago(plugin.loaded_at),
        ),
    );
    if let Some(error) = &plugin.last_error {
        let (at, text) = (Ago(error.at), Escaped(&error.text));
        put(
            out,
            format_args!("<tr class=error><td><td colspan=8>{at}: {text}</tr>"),
        );
    }
}

fn requests(out: &mut String, requests: &[Told]) {
    out.push_str(
        "<h2>Requests</h2><table id=requests><thead><tr><th>when<th>request<th>status<th>what the plugins did<th>ms\
         </tr></thead><tbody>",
    );
    for told in requests {
        let status = told
            .status
            .map_or("closed".to_owned(), |status| status.to_string());
        let class = match told.status {
            Some(200..=399) => "good",
            Some(400..=499) => "warning",
            _ => "error",
        };
        put(
            out,
            format_args!(
                "<tr><td>{}<td><code>{} {}</code><td class={class}>{status}<td>",
                Ago(told.at),
                Escaped(&told.method),
                Escaped(&told.target)
            ),
        );
        for (index, hook) in told.hooks.iter().enumerate() {
            self::hook(out, told.number, index, hook);
        }
        put(
            out,
            format_args!("<td>{:.1}</tr>", told.took.as_secs_f64() * 1000.0),
        );
    }
    if requests.is_empty() {
        out.push_str("<tr><td colspan=5>none yet</tr>");
    }
    out.push_str("</tbody></table>");
}

fn hook(out: &mut String, request: u64, index: usize, hook: &Hook) {
    let summary = hook.summary();
    if hook.steps.is_empty() {
        return put(out, format_args!("<div>{}</div>", Escaped(&summary)));
    }
    put(
        out,
        format_args!(
            "<details id=r{request}-{index}><summary>{}</summary><ol>",
            Escaped(&summary)
        ),
    );
    for step in &hook.steps {
        self::step(out, step);
    }
    out.push_str("</ol></details>");
}

fn step(out: &mut String, step: &Step) {
    let (plugin, phase) = (Escaped(&step.plugin), Escaped(&step.phase));
    put(
        out,
        format_args!(
            "<li><b>{plugin}</b> {phase}, generation {}, {} µs",
            step.generation,
            step.took_ns / 1000
        ),
    );
    if step.decision.is_failure() {
        let error = step.error.as_deref().unwrap_or("it did not say why");
        put(
            out,
            format_args!(" <span class=error>fails: {}</span>", Escaped(error)),
        );
    }
    out.push_str("<ul class=diff>");
    for change in &step.changes {
        self::change(out, change);
    }
    if step.cut {
        out.push_str("<li>… and more that is not shown");
    }
    out.push_str("</ul>");
}

fn change(out: &mut String, change: &Change) {
    let name = match change.name.is_empty() {
        true => change.what.clone(),
        false => format!("{} {}", change.what, change.name),
    };
    for (class, sign, values) in [("from", '−', &change.before), ("to", '+', &change.after)] {
        for value in values {
            let (name, value) = (Escaped(&name), Escaped(value));
            match change.what.ends_with("body") {
                true => put(
                    out,
                    format_args!("<li class={class}>{sign} {name}: <pre>{value}</pre>"),
                ),
                false => put(
                    out,
                    format_args!("<li class={class}>{sign} {name}: {value}"),
                ),
            }
        }
    }
}

fn notes(out: &mut String, notes: &[Note]) {
    out.push_str("<h2>Builds, swaps and warnings</h2><table id=notes><tbody>");
    for note in notes {
        let (kind, class) = match note.kind {
            Kind::Build => ("build", "info"),
            Kind::Swap => ("swap", "good"),
            Kind::Info => ("info", "info"),
            Kind::Warning => ("warning", "warning"),
            Kind::Fault => ("error", "error"),
        };
        let (at, text) = (Ago(note.at), Escaped(&note.text));
        put(
            out,
            format_args!("<tr><td>{at}<td class={class}>{kind}<td><pre>{text}</pre></tr>"),
        );
    }
    if notes.is_empty() {
        out.push_str("<tr><td>none yet</tr>");
    }
    out.push_str("</tbody></table>");
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

/// A time in seconds since 1970, as the time since then; the exact one for the pointer.
struct Ago(u64);

impl Display for Ago {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ago = now().saturating_sub(self.0);
        let text = match ago {
            0..60 => format!("{ago} s ago"),
            60..3600 => format!("{} min ago", ago / 60),
            _ => format!("{} h ago", ago / 3600),
        };
        write!(f, "<time data-at={}>{text}</time>", self.0)
    }
}

/// Text that stays text.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::step::Decided;

    #[test]
    fn what_others_have_written_is_never_markup() {
        const EVIL: &str = "<script>alert('\"&')</script>";
        let evil = || EVIL.to_owned();
        let change = Change {
            what: "header".into(),
            name: evil(),
            before: vec![evil()],
            after: vec![evil()],
        };
        let step = Step {
            plugin: evil(),
            phase: evil(),
            decision: Decided::Error,
            error: Some(evil()),
            changes: vec![change],
            ..Step::default()
        };
        let hook = Hook {
            name: "pre-req",
            said: evil(),
            call: None,
            steps: vec![step],
        };
        let told = Told {
            number: 1,
            at: 0,
            method: evil(),
            target: evil(),
            status: None,
            hooks: vec![
                hook,
                Hook {
                    said: evil(),
                    ..Hook::default()
                },
            ],
            took: Default::default(),
        };
        let note = Note {
            at: 0,
            kind: Kind::Fault,
            text: evil(),
        };
        let mut status = Box::<Status>::default();
        status
            .plugins
            .push(crate::supervise::admin::message::Plugin {
                name: evil(),
                version: evil(),
                file: evil().into(),
                state: evil(),
                ..Default::default()
            });
        status
            .libraries
            .push(crate::supervise::admin::message::LibraryFile {
                file: evil().into(),
                state: evil(),
                cause: Some(evil()),
                hint: Some(evil()),
                ..Default::default()
            });
        for runner in [Ok(status), Err(evil())] {
            let facts = Facts {
                runner,
                requests: vec![told.clone()],
                notes: vec![note.clone()],
            };
            assert!(!part(&facts).contains("<script"), "{}", part(&facts));
            assert!(part(&facts).contains("&lt;script&gt;"));
        }
    }
}
