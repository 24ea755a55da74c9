//! One plugin's crate as cargo knows it, and one build of it. Never watches a file, never lays one.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::exit::Failure;

/// A crate that makes a plugin's library.
#[derive(Debug, Clone)]
pub(super) struct Crate {
    /// The folder of its manifest, without links.
    pub(super) folder: PathBuf,
    /// The package's name.
    pub(super) package: String,
    /// Where cargo puts what it builds.
    pub(super) target: PathBuf,
    manifest: PathBuf,
}

/// What a build came to.
#[derive(Debug)]
pub(super) enum Built {
    /// The library, and all files that it was made of as far as cargo tells.
    Library {
        file: PathBuf,
        sources: Vec<PathBuf>,
    },
    /// The compiler's messages have been shown; the errors among them, without colours.
    Failed(String),
}

/// How to build.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// With optimisations.
    pub(super) release: bool,
    /// The compiler's messages are shown on a terminal.
    pub(super) colours: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

impl Crate {
    /// Looks at a crate's manifest.
    ///
    /// # Errors
    /// There is no such folder, it has no package, the package makes no library to load, or cargo cannot be started.
    pub(super) async fn find(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        let real = folder.canonicalize().map_err(|cause| {
            let failure = Failure::new(format!("cannot use the crate {shown}")).because(cause);
            failure
                .hint("--crate takes the folder with the plugin's Cargo.toml")
                .usage()
        })?;
        let manifest = real.join("Cargo.toml");
        if !manifest.is_file() {
            let failure = Failure::new(format!("there is no Cargo.toml in {shown}"));
            let failure = failure.hint("--crate takes the folder with the plugin's Cargo.toml");
            return Err(failure.usage().into());
        }
        let metadata = metadata(&manifest).await?;
        let found = metadata.packages.into_iter();
        let mut found = found.filter(|package| is_same(&package.manifest_path, &manifest));
        let Some(package) = found.next() else {
            let failure = Failure::new(format!("{shown} is a workspace and no package"));
            let failure = failure.hint("name the folder of the plugin's own package");
            return Err(failure.usage().into());
        };
        let types = package
            .targets
            .iter()
            .flat_map(|target| &target.crate_types);
        if !types.into_iter().any(|kind| kind == "cdylib") {
            let failure = Failure::new(format!("the package `{}` makes no .so file", package.name));
            let hint = format!(
                "put crate-type = [\"cdylib\"] under [lib] in {}",
                manifest.display()
            );
            return Err(failure.hint(hint).usage().into());
        }
        Ok(Self {
            folder: real,
            package: package.name,
            target: metadata.target_directory,
            manifest,
        })
    }

    /// Runs `cargo build`, whose progress goes to standard error; hands what the compiler says to `show`.
    /// Dropping the future ends the build.
    ///
    /// # Errors
    /// cargo cannot be started, or it succeeds without a library.
    pub(super) async fn build(
        &self,
        manner: Manner,
        mut show: impl FnMut(&str),
    ) -> anyhow::Result<Built> {
        let format = match manner.colours {
            true => "json-diagnostic-rendered-ansi",
            false => "json",
        };
        let mut command = cargo();
        command.args(["build", "--lib", "--message-format", format]);
        command.arg("--manifest-path").arg(&self.manifest);
        if manner.release {
            command.arg("--release");
        }
        command.stdout(Stdio::piped());
        let mut running = Running(command.spawn().map_err(not_started)?);
        let output = running.0.stdout.take().context("cargo has no output")?;
        let mut lines = BufReader::new(output).lines();
        let (mut library, mut errors) = (None, String::new());
        while let Some(line) = lines.next_line().await? {
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                continue;
            };
            if let Some((text, is_error)) = diagnostic(&message) {
                show(text);
                if is_error {
                    errors.push_str(text);
                }
            }
            library = self.library_of(&message).or(library);
        }
        let status = running.0.wait().await?;
        self.outcome(status, library, errors)
    }

    fn outcome(
        &self,
        status: ExitStatus,
        library: Option<PathBuf>,
        errors: String,
    ) -> anyhow::Result<Built> {
        match library {
            _ if !status.success() && errors.is_empty() => Ok(Built::Failed(format!(
                "cargo ended with {status}; its reason is on the terminal\n"
            ))),
            _ if !status.success() => Ok(Built::Failed(plain(&errors))),
            Some(file) => {
                let sources = sources(&file.with_extension("d"));
                Ok(Built::Library { file, sources })
            }
            None => bail!("the build of `{}` made no .so file", self.package),
        }
    }

    fn library_of(&self, message: &Value) -> Option<PathBuf> {
        let ours = message["reason"] == "compiler-artifact"
            && is_same(
                Path::new(message["manifest_path"].as_str()?),
                &self.manifest,
            );
        let files = message["filenames"].as_array().filter(|_| ours)?;
        let mut files = files.iter().filter_map(Value::as_str);
        files.find(|file| file.ends_with(".so")).map(PathBuf::from)
    }
}

/// A running build, in a process group of its own: Ctrl-C reaches us, and we end it with all its compilers.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended just now; then there is nothing to signal.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
        }
    }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.stdin(Stdio::null()).process_group(0);
    command
}

fn not_started(cause: std::io::Error) -> Failure {
    Failure::new("cannot start cargo, which builds the crate")
        .because(cause)
        .hint(
            "install Rust from https://rustup.rs, or name cargo in the environment variable CARGO",
        )
}

async fn metadata(manifest: &Path) -> anyhow::Result<Metadata> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]);
    command.arg("--manifest-path").arg(manifest);
    let output = command.output().await.map_err(not_started)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let failure = Failure::new(format!("cargo cannot read {}", manifest.display()));
        return Err(failure.because(said).usage().into());
    }
    serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| one == other)
}

/// A message of the compiler as it wants to be shown, and whether it is an error.
fn diagnostic(message: &Value) -> Option<(&str, bool)> {
    let message = &message["message"];
    let is_error = message["level"].as_str()?.starts_with("error");
    Some((message["rendered"].as_str()?, is_error))
}

/// The files that a dep-info file of cargo names: `target: file file …`, blanks in names escaped.
fn sources(dep_info: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(dep_info).unwrap_or_default();
    let names = text.lines().next().and_then(|line| line.split_once(": "));
    let names = names.map_or("", |(_, names)| names).replace("\\ ", "\0");
    let names = names.split_whitespace().map(|name| name.replace('\0', " "));
    names.map(PathBuf::from).collect()
}

/// Without escape sequences of colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or("", |at| &after[at + 1..]);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dep_info_file_names_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("libp.d");
        std::fs::write(&file, "/t/libp.so: /c/src/lib.rs /c/a\\ b.rs\n\n/c/x:\n").unwrap();
        let expected = ["/c/src/lib.rs", "/c/a b.rs"].map(PathBuf::from);
        assert_eq!(sources(&file), expected);
        assert_eq!(
            sources(&folder.path().join("none")),
            [""; 0].map(PathBuf::from)
        );
    }

    #[test]
    fn colours_leave_no_trace_in_plain_text() {
        assert_eq!(plain("\x1b[1m\x1b[91merror\x1b[0m: no\n"), "error: no\n");
        assert_eq!(plain("cut \x1b[1"), "cut ");
    }

    #[tokio::test]
    async fn what_is_no_plugins_crate_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let refused = async |expected: &str| {
            let error = Crate::find(&folder.path().join("c")).await.unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{text}");
        };
        refused("cannot use the crate").await;
        std::fs::create_dir_all(folder.path().join("c/src")).unwrap();
        refused("there is no Cargo.toml").await;
        let manifest = folder.path().join("c/Cargo.toml");
        std::fs::write(&manifest, "[workspace]\n").unwrap();
        refused("is a workspace and no package").await;
        std::fs::write(&manifest, "[package\n").unwrap();
        refused("cargo cannot read").await;
        std::fs::write(&manifest, "[package]\nname = \"p\"\n[workspace]\n").unwrap();
        std::fs::write(folder.path().join("c/src/lib.rs"), "").unwrap();
        refused("the package `p` makes no .so file").await;
    }
}
