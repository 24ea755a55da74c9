//! The house rules that no other tool knows. An ordinary test runs them too. Reads the sources, changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{cargo, links, messages};

const FOLDERS: [&str; 6] = [
    "runner",
    "plugin-api",
    "example-plugins",
    "conf",
    "tests",
    "xtask",
];
/// Beside the folders.
const PAGES: [&str; 2] = ["README.md", ".github/CONTRIBUTING.md"];
/// Lines of a file before its tests.
const MAX_FILE: usize = 400;
/// Lines of a function.
const MAX_FUNCTION: usize = 60;
/// The parts of the runner, uppermost first: none may use one above it.
const LAYERS: [&str; 4] = ["supervise", "rpc", "request", "plugins"];
/// Where `unsafe` may stand: at the borders to other people's code and to the system.
const UNSAFE: &[&str] = &[
    "plugin-api/src/abi/",
    "plugin-api/macros/src/plugin.rs",
    "plugin-api/src/testing/",
    "plugin-api/tests/events.rs",
    "example-plugins/misbehaving/src/",
    "runner/src/plugins/blame/crash.rs",
    "runner/src/plugins/blame/page.rs",
    "runner/src/plugins/library.rs",
    "runner/src/request/host.rs",
    "runner/src/supervise/descriptors.rs",
    "runner/src/supervise/heap.rs",
    "runner/src/supervise/leave.rs",
    "tests/frozen/", // copies of the above
    "tests/tests/allocations.rs",
];
/// Text that belongs to one machine, in two parts so that this file may pass.
const FORBIDDEN: [(&str, &str); 2] = [("/wo", "rk/"), ("TO", "DO:")];

/// Runs the task.
///
/// # Errors
/// Something breaks a rule; each case is a line of its own.
pub fn run(arguments: Vec<String>) -> Result<()> {
    crate::no_more("tidy", &arguments)?;
    let faults = check(&cargo::root())?;
    if !faults.is_empty() {
        bail!("the house rules are broken:\n{}", faults.join("\n"));
    }
    Ok(())
}

/// Everything that breaks a rule, as `file: what to do`.
///
/// # Errors
/// A file cannot be read.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for folder in FOLDERS {
        let mut files = Vec::new();
        collect(&root.join(folder), &mut files)?;
        for file in files {
            let name = file
                .strip_prefix(root)
                .unwrap_or(&file)
                .display()
                .to_string();
            if let Ok(text) = fs::read_to_string(&file) {
                let mut found = check_file(&name, &text);
                if name.ends_with(".md") {
                    found.extend(links::dead(&file, &text));
                }
                faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
            }
        }
    }
    for name in PAGES {
        let page = root.join(name);
        let dead = links::dead(&page, &fs::read_to_string(&page)?);
        faults.extend(dead.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    faults.extend(messages::check(root)?);
    faults.sort();
    Ok(faults)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() && entry.file_name() != "target" => {
                collect(&entry.path(), files)?
            }
            kind if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (head, tail) in FORBIDDEN {
        if text.contains(&[head, tail].concat()) {
            faults.push(format!("take out `{head}{tail}`"));
        }
    }
    if name.ends_with(".rs") && !name.ends_with("/generated.rs") {
        check_source(name, text, &mut faults);
    }
    faults
}

fn check_source(name: &str, text: &str, faults: &mut Vec<String>) {
    if name.ends_with("/mod.rs") {
        faults.push("put the module into a file beside its folder".to_owned());
    }
    if !name.contains("/ui/") && !text.starts_with("//!") {
        faults.push("open it with `//!`: what it owns, what it never does".to_owned());
    }
    if has_unsafe_code(text) && !UNSAFE.iter().any(|allowed| name.starts_with(allowed)) {
        faults.push(
            "write it without `unsafe`, or add it to the list in xtask/src/tidy.rs".to_owned(),
        );
    }
    let product = before_tests(text);
    let lines = product.lines().count();
    if lines > MAX_FILE && !name.contains("tests") {
        faults.push(format!(
            "has {lines} lines before its tests, more than {MAX_FILE}: split it"
        ));
    }
    for (function, lines) in long_functions(product) {
        if !name.contains("tests") {
            let fault =
                format!("`{function}` has {lines} lines, more than {MAX_FUNCTION}: split it");
            faults.push(fault);
        }
    }
    if !name.contains("tests") {
        check_layer(name, product, faults);
    }
}

/// The text before `mod tests`.
pub(crate) fn before_tests(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {")
        .map_or(text, |(before, _)| before)
}

fn has_unsafe_code(text: &str) -> bool {
    let word = concat!("un", "safe");
    let forms = [" {", " fn", " impl", " extern", "("].map(|after| [word, after].concat());
    let mut code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    code.any(|line| forms.iter().any(|form| line.contains(form)))
}

/// Functions that are too long, with their lines. The sources are formatted: a function ends at its own indentation.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let mut long = Vec::new();
    let lines: Vec<_> = text.lines().collect();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        // A function of a trait, without a body.
        let signature = lines[start..]
            .iter()
            .find(|line| line.ends_with(['{', ';']));
        if signature.is_none_or(|line| line.ends_with(';')) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = [indent, "}"].concat();
        let length = lines[start..]
            .iter()
            .position(|line| *line == end)
            .unwrap_or(0);
        if length > MAX_FUNCTION {
            long.push((name.to_owned(), length));
        }
    }
    long
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let words = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
        "extern",
        "\"C\"",
    ];
    let is_function = before.split_whitespace().all(|word| words.contains(&word));
    is_function.then(|| after.split(['(', '<']).next().unwrap_or(after))
}

fn check_layer(name: &str, text: &str, faults: &mut Vec<String>) {
    let Some(part) = name.strip_prefix("runner/src/") else {
        return;
    };
    let part = part.split(['/', '.']).next().unwrap_or(part);
    let Some(own) = LAYERS.iter().position(|layer| *layer == part) else {
        return;
    };
    for above in &LAYERS[..own] {
        if text.contains(&format!("crate::{above}")) {
            faults.push(format!(
                "`{part}` must not use `{above}`, which is above it"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_keeps_its_house_rules() {
        let faults = check(&cargo::root()).unwrap();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[track_caller]
    fn broken(name: &str, text: &str, expected: &str) {
        let faults = check_file(name, text).join("\n");
        assert!(faults.contains(expected), "{faults}");
    }

    #[test]
    fn each_rule_finds_what_breaks_it() {
        broken("runner/src/a/mod.rs", "//! A.\n", "beside its folder");
        broken("runner/src/a.rs", "fn a() {}\n", "open it with");
        broken(
            "runner/src/a.rs",
            concat!("//! A.\nfn a() { un", "safe {} }\n"),
            "without `unsafe`",
        );
        broken(
            "runner/src/a.rs",
            &format!("//! A.\n{}", "//\n".repeat(MAX_FILE)),
            "401 lines",
        );
        broken(
            "runner/src/plugins/a.rs",
            "//! A.\nuse crate::rpc;\n",
            "must not use `rpc`",
        );
        broken(
            "conf/a.yaml",
            &format!("a: {}{}", FORBIDDEN[0].0, FORBIDDEN[0].1),
            "take out",
        );
        let long = format!(
            "//! A.\n    pub async fn long(a: u8) {{\n{}    }}\n",
            "        a;\n".repeat(70)
        );
        broken("runner/src/a.rs", &long, "`long` has 71 lines");
    }

    #[test]
    fn what_keeps_the_rules_passes() {
        let text = "//! A.\nuse crate::plugins;\n/// `unsafe {}` in a comment.\nfn a() {\n}\n";
        assert_eq!(check_file("runner/src/request/a.rs", text), [""; 0]);
    }
}
