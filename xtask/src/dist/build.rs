//! Builds what goes into the archive: for an old glibc if the tools for that are here, else for this machine's.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::traces;
use crate::cargo;

/// Of August 2018: what the oldest distributions in support have.
pub(super) const BASELINE: &str = "2.28";
/// Of Cargo.toml: the program as it is shipped.
const PROFILE: &str = "ship";
/// This machine's, with its own name for the architecture.
#[cfg(target_arch = "x86_64")]
const TARGET: &str = "x86_64-unknown-linux-gnu";
#[cfg(target_arch = "aarch64")]
const TARGET: &str = "aarch64-unknown-linux-gnu";

/// How it is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// For an old glibc, with zig as the linker.
    Baseline,
    /// For this machine's.
    Here,
    /// The same without optimisations: to try how the archive is made.
    Debug,
}

/// What was built.
pub(super) struct Built {
    pub(super) program: PathBuf,
    pub(super) libraries: Vec<PathBuf>,
    pub(super) version: String,
    pub(super) target: &'static str,
}

impl Manner {
    /// The old one, unless this machine's is asked for or a tool is missing, which is said.
    pub(super) fn choose(here: bool) -> Self {
        if here {
            return Self::Here;
        }
        if cargo::has(&mut Command::new("cargo-zigbuild")) && has_zig() {
            return Self::Baseline;
        }
        println!(
            "skipped: cargo-zigbuild or zig is not installed, so the archive needs this machine's glibc or a newer one\n\
             \x20        (pip install cargo-zigbuild ziglang)"
        );
        Self::Here
    }

    /// Of `cargo xtask dist`.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Baseline => &[],
            Self::Here => &["--here"],
            Self::Debug => &["--debug"],
        }
    }

    /// zig's linker takes `--strip-debug` for `--strip-all`, and names of functions would go: it is told nothing, and the
    /// files lose their debug information when they are laid.
    pub(super) fn strips_itself(self) -> bool {
        self == Self::Baseline
    }

    fn command(&self) -> Result<Command> {
        let mut command = cargo::cargo();
        match self {
            Self::Here | Self::Debug => command.arg("build"),
            Self::Baseline => command
                .arg("zigbuild")
                .arg(format!("--target={TARGET}.{BASELINE}")),
        };
        if !matches!(self, Self::Debug) {
            command.args(["--profile", PROFILE]);
            command.env("CARGO_ENCODED_RUSTFLAGS", traces::flags()?);
        }
        if self.strips_itself() {
            command.env("CARGO_PROFILE_SHIP_STRIP", "none");
        }
        Ok(command)
    }
}

/// As cargo-zigbuild looks for it: the program, or the wheel.
fn has_zig() -> bool {
    let answers = |command: &mut Command| {
        let output = command.output();
        output.is_ok_and(|output| output.status.success())
    };
    answers(Command::new("zig").arg("version"))
        || answers(Command::new("python3").args(["-m", "ziglang", "version"]))
        || answers(Command::new("python-zig").arg("version"))
}

/// Builds the runner and the example plugins.
///
/// # Errors
/// Something does not build.
pub(super) fn all(manner: &Manner) -> Result<Built> {
    // Apart: together, cargo would turn on more features of what they share, and the plugins would come out different
    // from those that an author builds.
    let packages = cargo::plugin_packages()?;
    let shown: Vec<_> = packages
        .iter()
        .filter(|package| !package.for_tests)
        .collect();
    let mut command = manner.command()?;
    for package in &shown {
        command.args(["--package", &package.name]);
    }
    let files = cargo::build(&mut command)?;
    let name = |package: &str| format!("lib{}.so", package.replace('-', "_"));
    let mut libraries = Vec::new();
    for package in &shown {
        let file = files
            .iter()
            .find(|file| file.ends_with(name(&package.name)));
        let file = file.with_context(|| format!("`{}` has made no library", package.name))?;
        libraries.push(file.clone());
    }
    let files = cargo::build(manner.command()?.args(["--package", "plugin-runner"]))?;
    let program = files
        .into_iter()
        .find(|file| file.ends_with("plugin-runner"));
    Ok(Built {
        program: program.context("the build made no plugin-runner")?,
        libraries,
        version: cargo::version("plugin-runner")?,
        target: TARGET,
    })
}
