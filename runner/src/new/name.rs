//! What a plugin can be called: the name is its package's, its folder's and, with `_` for `-`, its library's.

/// Bytes of a name: what package registries take.
const MAX: usize = 64;

/// Plugins that come with the runner. Of two libraries that offer one name, neither serves at a cold start.
pub const SHIPPED: &[&str] = &[
    "acl",
    "asking",
    "bench-headers",
    "bot-detection",
    "do",
    "fault-injection",
    "ip-restriction",
    "key-auth",
    "limit-req",
    "misbehaving",
    "request-body-rewrite",
    "response-rewrite",
    "rewrite",
    "say",
    "stop",
    "tracer",
];

/// Words of the language, which no library can be called.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "union", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Crates that the plugin's own would hide, and names that cargo keeps for itself.
const CRATES: &[&str] = &[
    "alloc",
    "core",
    "proc_macro",
    "std",
    "test",
    "build",
    "deps",
    "examples",
    "incremental",
];

/// The crates that a plugin is made with.
const OURS: &[&str] = &[
    "plugin_api",
    "gateway_plugin_api",
    "gateway_plugin_api_macros",
    "plugin_api_macros",
    "plugin_runner",
];

/// Why a plugin cannot be called this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing.
    #[error("a plugin needs a name, such as `require-key`")]
    Empty,
    /// A place and not a name.
    #[error(
        "`{0}` is a path: go to the folder that the crate shall lie in, and give the name alone"
    )]
    Path(String),
    /// Not what a package can be called.
    #[error(
        "`{name}` cannot be the name of a crate: it has {found:?}. \
         Use small letters, digits and `-`, a letter first; `{better}` would do"
    )]
    Character {
        /// As given.
        name: String,
        /// What is wrong in it.
        found: char,
        /// A name like it.
        better: String,
    },
    /// Too long.
    #[error("the name has {0} characters, more than {MAX}")]
    Long(usize),
    /// Taken by the language or the standard library.
    #[error(
        "`{0}` means something in Rust and cannot be the name of a crate; `{0}-plugin` would do"
    )]
    Reserved(String),
    /// Taken by the crates of this project.
    #[error("`{0}` is the name of a crate that plugins are made with; choose another")]
    Ours(String),
    /// Another plugin has it.
    #[error(
        "there is a plugin `{0}` already, and of two that offer one name neither serves; `my-{0}` would do"
    )]
    Taken(String),
}

/// Whether a plugin can be called this.
///
/// # Errors
/// Why not, with one that would do.
pub(super) fn check(name: &str) -> Result<(), BadName> {
    let owned = || name.to_owned();
    if name.trim().is_empty() {
        return Err(BadName::Empty);
    }
    if name.contains(['/', '\\']) || name.starts_with('.') || name.starts_with('~') {
        return Err(BadName::Path(owned()));
    }
    let small = |character: char| character.is_ascii_lowercase();
    let rest = |character: char| {
        small(character) || character.is_ascii_digit() || "-_".contains(character)
    };
    let first = name.chars().next().filter(|first| !small(*first));
    if let Some(found) = first.or_else(|| name.chars().find(|character| !rest(*character))) {
        return Err(BadName::Character {
            name: owned(),
            found,
            better: better(name),
        });
    }
    if name.len() > MAX {
        return Err(BadName::Long(name.len()));
    }
    let library = name.replace('-', "_");
    if SHIPPED.contains(&name) {
        return Err(BadName::Taken(owned()));
    }
    if KEYWORDS.contains(&library.as_str()) || CRATES.contains(&library.as_str()) {
        return Err(BadName::Reserved(owned()));
    }
    if OURS.contains(&library.as_str()) {
        return Err(BadName::Ours(owned()));
    }
    Ok(())
}

/// A name like this one that passes.
fn better(name: &str) -> String {
    let mut better = String::new();
    for character in name.chars() {
        let character = character.to_ascii_lowercase();
        let fits =
            character.is_ascii_lowercase() || (character.is_ascii_digit() && !better.is_empty());
        if fits {
            better.push(character);
        } else if !better.is_empty() && !better.ends_with('-') {
            better.push('-');
        }
    }
    let better = better.trim_end_matches('-');
    match check(better) {
        Ok(()) => better.to_owned(),
        Err(_) => "my-plugin".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crates_pass() {
        for name in [
            "hello",
            "require-key",
            "a",
            "limit_rate",
            "auth2",
            &"x".repeat(64),
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[track_caller]
    fn refused(name: &str, says: &str) {
        let error = check(name).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_the_reason_and_one_that_would_do() {
        refused("", "needs a name");
        refused("  ", "needs a name");
        refused("plugins/mine", "is a path");
        refused("../mine", "is a path");
        refused(".", "is a path");
        refused("a\\b", "is a path");
        refused("Require Key", "`require-key` would do");
        refused("RequireKey", "it has 'R'");
        refused("größe", "it has 'ö'");
        refused("2fast", "`fast` would do");
        refused("-x", "it has '-'");
        refused("日本", "`my-plugin` would do");
        refused("a\nb", "it has '\\n'");
        refused(&"x".repeat(65), "65 characters");
        refused("match", "`match-plugin` would do");
        refused("proc-macro", "means something in Rust");
        refused("test", "means something in Rust");
        refused("plugin-api", "plugins are made with");
        refused("gateway-plugin-api", "plugins are made with");
        refused("key-auth", "there is a plugin `key-auth` already");
    }

    #[test]
    fn the_plugins_that_come_with_the_runner_are_known() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../example-plugins");
        let mut found: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, SHIPPED);
    }
}
