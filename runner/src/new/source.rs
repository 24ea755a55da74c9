//! Where a new crate takes plugin-api from. The package is `gateway-plugin-api`, its library `plugin_api`; the bare
//! name belongs to somebody else on the registry and never stands in a manifest of ours.

use std::fs;
use std::path::{Component, Path, PathBuf};

use plugin_api::abi::metadata::API_VERSION;

/// The package.
pub(super) const PACKAGE: &str = "gateway-plugin-api";

/// Where plugin-api comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Api {
    /// A folder of this machine; relative ones start at the new crate.
    Path(PathBuf),
    /// A git repository.
    Git(String),
    /// The registry that cargo uses.
    Registry,
}

/// Why plugin-api cannot come from there.
#[derive(Debug, thiserror::Error)]
pub enum BadSource {
    /// Not the folder of the package.
    #[error("{} has no package `{PACKAGE}`", .0.display())]
    NoPackage(PathBuf),
    /// Not what cargo clones.
    #[error(
        "`{0}` is no address that cargo clones from: write it as https://…, ssh://… or file:///…"
    )]
    Address(String),
}

impl Api {
    /// The folder of plugin-api, or of the project that it lies in. `parent` is where the crate's folder will be made.
    ///
    /// # Errors
    /// There is no plugin-api.
    pub fn path(folder: &Path, parent: &Path) -> Result<Self, BadSource> {
        let inner = folder.join("plugin-api");
        let found = [folder, &inner]
            .into_iter()
            .find(|it| is_plugin_api(&parent.join(it)));
        let found = found.ok_or_else(|| BadSource::NoPackage(folder.to_path_buf()))?;
        Ok(Self::Path(match found.is_absolute() {
            true => found.to_path_buf(),
            // The crate lies one folder deeper.
            false => Path::new("..").join(without_dots(found)),
        }))
    }

    /// A git repository.
    ///
    /// # Errors
    /// It is no address that cargo takes.
    pub fn git(address: &str) -> Result<Self, BadSource> {
        let (scheme, rest) = address.split_once("://").unwrap_or_default();
        let known = ["https", "http", "ssh", "git", "file"].contains(&scheme);
        let odd = |character: char| {
            character.is_whitespace() || character.is_control() || "\"'\\".contains(character)
        };
        if !known || rest.is_empty() || address.contains(odd) {
            return Err(BadSource::Address(address.to_owned()));
        }
        Ok(Self::Git(address.to_owned()))
    }

    /// When nothing is said: the checkout that this executable was built in, if it lies in one; else the registry.
    pub fn found() -> Self {
        let executable = std::env::current_exe().and_then(fs::canonicalize);
        let executable = executable.unwrap_or_default();
        let mut above = executable
            .ancestors()
            .skip(1)
            .map(|above| above.join("plugin-api"));
        above
            .find(|it| is_plugin_api(it))
            .map_or(Self::Registry, Self::Path)
    }

    /// The dependency's table, with or without the test kit.
    pub(super) fn dependency(&self, testing: bool) -> String {
        let from = match self {
            Self::Path(folder) => format!("path = {}", quoted(&folder.to_string_lossy())),
            Self::Git(address) => format!("git = {}", quoted(address)),
            Self::Registry => format!("version = {}", quoted(&version())),
        };
        let features = if testing {
            ", features = [\"testing\"]"
        } else {
            ""
        };
        format!("{PACKAGE} = {{ {from}{features} }}")
    }
}

/// The versions that have what this build's template uses: `1.0`.
fn version() -> String {
    API_VERSION
        .rsplit_once('.')
        .map_or(API_VERSION, |(version, _)| version)
        .to_owned()
}

fn is_plugin_api(folder: &Path) -> bool {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let name = format!("name = \"{PACKAGE}\"");
    manifest.lines().any(|line| line.trim() == name)
}

/// Without `.`, which means nothing in the middle of a path.
fn without_dots(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    // A JSON string is one of TOML, but for DEL.
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_may_be_that_of_plugin_api_or_the_project() {
        let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let own = Api::path(project, Path::new("/")).unwrap();
        assert_eq!(
            own,
            Api::path(&project.join("plugin-api"), Path::new("/")).unwrap()
        );
        assert_eq!(own, Api::Path(project.join("plugin-api")));
    }

    #[test]
    fn a_relative_folder_starts_at_the_new_crate() {
        let project = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let relative = Api::path(Path::new("./plugin-api"), project).unwrap();
        assert_eq!(relative, Api::Path("../plugin-api".into()));
        assert_eq!(
            relative.dependency(false),
            r#"gateway-plugin-api = { path = "../plugin-api" }"#
        );
    }

    #[test]
    fn another_folder_is_refused_by_name() {
        let error = Api::path(Path::new("/etc"), Path::new("/")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/etc has no package `gateway-plugin-api`"
        );
    }

    #[test]
    fn an_address_is_one_that_cargo_clones() {
        let good = Api::git("https://git.example/team/plugin-runner").unwrap();
        assert_eq!(
            good.dependency(true),
            r#"gateway-plugin-api = { git = "https://git.example/team/plugin-runner", features = ["testing"] }"#
        );
        for bad in [
            "",
            "plugin-runner",
            "git@git.example:a/b.git",
            "https://",
            "https://a/\" }\nx = \"",
            "../x",
        ] {
            assert!(Api::git(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_registry_is_asked_for_our_package_and_never_for_the_bare_name() {
        let dependency = Api::Registry.dependency(false);
        assert_eq!(dependency, r#"gateway-plugin-api = { version = "1.0" }"#);
    }
}
