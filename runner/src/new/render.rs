//! The files of a new crate, from the templates in this binary. What comes out is as rustfmt would have it.

use std::collections::BTreeSet;

use super::{Order, Phase};

/// A file of the crate.
#[derive(Debug)]
pub struct File {
    /// Where, from the crate's folder.
    pub path: &'static str,
    /// What stands in it.
    pub text: String,
}

const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("README.md", include_str!("template/README.md.txt")),
    (".gitignore", include_str!("template/gitignore.txt")),
    (
        ".github/workflows/plugin.yml",
        include_str!("template/ci.yml.txt"),
    ),
];

/// Letters of a type's name: with more, rustfmt would break lines of the template.
const MAX_TYPE: usize = 28;

const OWN_WORKSPACE: &str = "
# The folders above have a Cargo.toml: without this, cargo would look for this crate in it.
[workspace]
";

/// The files of the crate. `nested`: a package lies above it.
pub(super) fn files(order: &Order, nested: bool) -> Vec<File> {
    let phases = phases(order);
    let values = [
        ("@NAME@", order.name.clone()),
        ("@FILE@", order.name.replace('-', "_")),
        ("@TYPE@", type_name(&order.name)),
        ("@ABOUT@", about(&phases)),
        ("@GREETING@", greeting(&phases).to_owned()),
        ("@API@", order.api.dependency(false)),
        ("@API_TESTING@", order.api.dependency(true)),
        (
            "@WORKSPACE@",
            if nested { OWN_WORKSPACE } else { "" }.to_owned(),
        ),
        ("@HOOK@", hook(&phases).to_owned()),
        ("@CALL@", call(&phases).to_owned()),
        ("@USES@", uses(&phases)),
        ("@TEST_USES@", test_uses(&phases)),
    ];
    FILES
        .map(|(path, template)| {
            let text = template
                .replace("@PHASES@", &code(&phases, |phase| phase.code().method))
                .replace("@TESTS@", &code(&phases, |phase| phase.code().test));
            let text = values
                .iter()
                .fold(text, |text, (from, to)| text.replace(from, to));
            // One end of line, whatever stood last.
            let text = text.trim_end().to_owned() + "\n";
            File { path, text }
        })
        .into()
}

/// In the order in which they run.
fn phases(order: &Order) -> BTreeSet<Phase> {
    match order.phases.is_empty() {
        true => BTreeSet::from([Phase::Access]),
        false => order.phases.iter().copied().collect(),
    }
}

fn code(phases: &BTreeSet<Phase>, part: impl Fn(&Phase) -> &'static str) -> String {
    phases.iter().map(part).collect()
}

fn about(phases: &BTreeSet<Phase>) -> String {
    let parts: Vec<_> = phases.iter().map(|phase| phase.code().about).collect();
    match parts.as_slice() {
        [one] => capitalized(one),
        // More would not fit into a line.
        _ => "Greets in every phase that it has".to_owned(),
    }
}

fn capitalized(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn greeting(phases: &BTreeSet<Phase>) -> &'static str {
    match phases.first() {
        Some(Phase::BodyFilter) => "The line before the body",
        Some(Phase::Log) => "What the log says",
        _ => "What the header `x-greeting` says",
    }
}

/// The gateway's plugin that leads to the first phase.
fn hook(phases: &BTreeSet<Phase>) -> &'static str {
    match of_response_only(phases) {
        true => "ext-plugin-post-resp",
        false => "ext-plugin-pre-req",
    }
}

fn call(phases: &BTreeSet<Phase>) -> &'static str {
    match of_response_only(phases) {
        true => "--response 200 /hello",
        false => "/hello",
    }
}

fn of_response_only(phases: &BTreeSet<Phase>) -> bool {
    let mut phases = phases
        .iter()
        .filter(|phase| **phase != Phase::Log)
        .peekable();
    phases.peek().is_some() && !phases.any(|phase| phase.on_request())
}

fn uses(phases: &BTreeSet<Phase>) -> String {
    let names = phases.iter().flat_map(|phase| phase.code().uses);
    let names: BTreeSet<_> = names
        .chain(&["Plugin", "config", "plugin"])
        .copied()
        .collect();
    // As rustfmt sorts: capital letters first.
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn test_uses(phases: &BTreeSet<Phase>) -> String {
    let names = phases.iter().map(|phase| phase.code().test_uses);
    let names: BTreeSet<_> = names.collect();
    let names = ["self"].into_iter().chain(names);
    names.collect::<Vec<_>>().join(", ")
}

/// `require-key` → `RequireKey`
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).filter(|word| !word.is_empty());
    let name: String = words.map(capitalized).collect();
    match name.as_str() {
        "" | "Config" | "Self" | "Call" | "Next" | "Plugin" | "Request" | "Response" | "Result"
        | "String" | "Ok" => name + "Plugin",
        _ if name.len() > MAX_TYPE => "ThePlugin".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use clap::ValueEnum;

    use super::super::Api;
    use super::*;

    fn order(name: &str, phases: Vec<Phase>) -> Order {
        Order {
            name: name.to_owned(),
            phases,
            api: Api::Registry,
            parent: ".".into(),
        }
    }

    fn source(name: &str, phases: Vec<Phase>) -> String {
        let files = files(&order(name, phases), false);
        let source = files.into_iter().find(|file| file.path == "src/lib.rs");
        source.unwrap().text
    }

    /// Every set of phases.
    fn sets() -> impl Iterator<Item = Vec<Phase>> {
        let all = Phase::value_variants();
        (0..1 << all.len()).map(|bits: usize| {
            let chosen = all.iter().enumerate().filter(|(at, _)| bits & 1 << at != 0);
            chosen.map(|(_, phase)| *phase).collect()
        })
    }

    #[test]
    fn the_source_is_as_rustfmt_would_have_it() {
        let all: String = sets().map(|phases| source("hello", phases)).collect();
        for text in sets()
            .map(|phases| source(&"x".repeat(28), phases))
            .chain(sets().map(|phases| source("a", phases)))
        {
            let mut rustfmt = Command::new("rustfmt")
                .args(["--edition", "2024", "--check"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            rustfmt
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            let output = rustfmt.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        assert!(!all.contains('@'));
    }

    #[test]
    fn nothing_of_the_template_is_left_open() {
        for phases in sets() {
            for nested in [false, true] {
                for file in files(&order("a-b", phases.clone()), nested) {
                    let open = file.text.split('@').skip(1);
                    let open = open
                        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()));
                    assert_eq!(open.count(), 0, "{}:\n{}", file.path, file.text);
                }
            }
        }
    }

    #[test]
    fn names_of_types_are_those_of_rust_and_hide_nothing() {
        assert_eq!(type_name("require-key"), "RequireKey");
        assert_eq!(type_name("a_2-b"), "A2B");
        assert_eq!(type_name("request"), "RequestPlugin");
        assert_eq!(type_name(&"long".repeat(9)), "ThePlugin");
    }
}
