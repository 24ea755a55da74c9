//! Whether runner/MESSAGES.md and the runner's sources agree: each message that an operator can meet is explained, and
//! none that is gone. Reads both, changes nothing.
//!
//! Found in the sources are the texts of `#[error("…")]`, `tracing::warn!` and `tracing::error!`. What else the page lists
//! (reasons that are put together elsewhere) has to stand in some source, in pieces between what is filled in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::tidy;

const PAGE: &str = "runner/MESSAGES.md";
/// Of `runner/src`. Commands for authors: they say their own way out.
const LEFT_OUT: [&str; 6] = ["call", "check", "cli", "dev", "exit", "new"];
const MARKS: [&str; 3] = ["#[error(", "tracing::warn!(", "tracing::error!("];

/// Everything in which they differ, as `file: what to do`.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut sources = Vec::new();
    collect(&root.join("runner/src"), &LEFT_OUT, &mut sources)?;
    let page = fs::read_to_string(root.join(PAGE))?;
    Ok(compare(&page, &sources))
}

fn collect(folder: &Path, left_out: &[&str], sources: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path: PathBuf = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        if left_out.iter().any(|out| name == *out) || name.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, &[], sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            sources.push(tidy::before_tests(&text).to_owned());
        }
    }
    Ok(())
}

fn compare(page: &str, sources: &[String]) -> Vec<String> {
    let listed: BTreeSet<_> = page.lines().filter_map(listed).collect();
    let found: BTreeSet<_> = sources.iter().flat_map(|source| messages(source)).collect();
    let plain: Vec<_> = sources.iter().map(|source| unescape(source)).collect();
    let missing = found.difference(&listed).map(|text| {
        format!("{PAGE}: say what to do about `{text}` (or take it out of the sources)")
    });
    let gone = listed
        .difference(&found)
        .filter(|text| !plain.iter().any(|source| has_pieces(source, text)))
        .map(|text| format!("{PAGE}: no source says `{text}` any more: take it out"));
    missing.chain(gone).collect()
}

/// The message of a row of the page's tables: what stands in backticks in the first cell.
fn listed(line: &str) -> Option<String> {
    let cell = line.strip_prefix("| `")?;
    let ticks = 1 + cell.len() - cell.trim_start_matches('`').len();
    let fence = "`".repeat(ticks);
    let (text, _) = cell[ticks - 1..].split_once(&format!("{fence} |"))?;
    Some(text.trim().to_owned())
}

/// Whether all pieces of a text stand in a source, between what is filled in.
fn has_pieces(source: &str, text: &str) -> bool {
    text.split('…')
        .map(str::trim)
        .filter(|piece| piece.len() > 1)
        .all(|piece| source.contains(piece))
}

/// The messages of a source, with `…` for what is filled in. One that has hardly a word of its own is left out.
fn messages(source: &str) -> Vec<String> {
    let starts = MARKS.iter().flat_map(|mark| {
        source
            .match_indices(mark)
            .map(|(at, _)| &source[at + mark.len()..])
    });
    starts
        .filter_map(message)
        .map(|text| without_values(&text))
        .filter(|text| text.chars().filter(char::is_ascii_alphabetic).count() >= 4)
        .collect()
}

/// The last argument of a macro that is a string by itself, up to the closing parenthesis.
fn message(arguments: &str) -> Option<String> {
    let (mut depth, mut argument, mut found, mut at) = (1, 0, None, 0);
    while depth > 0 {
        match arguments.as_bytes().get(at)? {
            b'"' => {
                let end = at + 1 + string_end(&arguments[at + 1..])?;
                if depth == 1 && arguments[argument..at].trim().is_empty() {
                    // Of `#[error]`'s arguments the first is the text, and no later one stands alone.
                    found = Some(unescape(&arguments[at + 1..end]));
                }
                at = end;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b',' if depth == 1 => argument = at + 1,
            _ => {}
        }
        at += 1;
    }
    found
}

/// Where a string ends that begins here.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

/// Strings as they are printed: lines that are continued put together, quotes without their backslash.
fn unescape(text: &str) -> String {
    let mut lines = text.split("\\\n");
    let mut plain = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        plain.push_str(line.trim_start());
    }
    plain.replace("\\\"", "\"")
}

/// `…` in the place of what is filled in.
fn without_values(text: &str) -> String {
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    let mut parts = text.split('{');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push('…');
        plain.push_str(part.split_once('}').map_or("", |(_, after)| after));
    }
    plain.replace('\u{1}', "{").replace('\u{2}', "}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "| message | what |\n|---|---|\n| `it is …, not \"b\"` | Mend it. |\n| ``no `…` here`` | Look. |\n";
    const SOURCE: &str = r#"
        #[error(
            "it is {}, \
             not \"b\"",
            0
        )]
        tracing::warn!(hint = "mend", name, "no `{}` here", name(1));
        tracing::error!("{error}");
    "#;

    #[test]
    fn a_page_that_lists_what_the_sources_say_passes() {
        assert_eq!(compare(PAGE, &[SOURCE.to_owned()]), [""; 0]);
    }

    #[test]
    fn a_message_that_is_not_listed_and_one_that_is_gone_are_faults() {
        let more = format!("{SOURCE}tracing::warn!(\"another one: {{cause}}\");");
        let faults = compare(PAGE, &[more]);
        assert!(
            faults[0].contains("`another one: …`") && faults.len() == 1,
            "{faults:?}"
        );
        let faults = compare(PAGE, &[SOURCE.replace("here", "there at all")]);
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(
            faults[1].contains("no source says `no `…` here`"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_text_that_is_put_together_elsewhere_needs_its_pieces() {
        let page = format!("{PAGE}| `it took … at … places` | Wait. |\n");
        let with = format!("{SOURCE}format!(\"it took {{}} at {{}} places\", 1, 2)");
        assert_eq!(compare(&page, &[with]), [""; 0]);
        assert_eq!(compare(&page, &[SOURCE.to_owned()]).len(), 1);
    }
}
