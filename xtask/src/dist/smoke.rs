//! Tries an archive as somebody who has just downloaded it: unpacked into an empty folder, nothing of the project
//! around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use serde_json::Value;

use super::build::Manner;
use crate::cargo;
use crate::running::{Running, get_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: a left-over folder in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Unpacks it, checks the sums, the configuration and the libraries, starts it on a socket, sends requests, ends it, and
/// writes a plugin with it.
///
/// # Errors
/// Something of that does not work.
pub(super) fn run(archive: &Path, name: &str, glibc: Option<&str>, manner: Manner) -> Result<()> {
    println!("trying the archive from an empty folder");
    let folder = std::env::temp_dir().join(format!("plugin-runner-dist-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let folder = Folder(folder);
    let mut tar = Command::new("tar");
    cargo::run(
        tar.arg("--extract")
            .arg("--file")
            .arg(archive)
            .current_dir(&folder.0),
    )?;
    let place = Place(folder.0.join(name));
    let sums = ["--check", "--strict", "--quiet", "SHA256SUMS"];
    cargo::run(place.command("sha256sum").args(sums))?;
    cargo::run(place.runner().arg("--version"))?;
    cargo::run(place.runner().args(["start", "--test"]))?;
    place.check_libraries(glibc, manner)?;
    place.serve()?;
    place.write_a_plugin()
}

/// The unpacked archive.
struct Place(PathBuf);

impl Place {
    /// A command in it, with an environment that has nothing of ours.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.0).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", &self.0);
        command
    }

    fn runner(&self) -> Command {
        self.command(self.0.join("plugin-runner"))
    }

    fn libraries(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.0.join("example-plugins"))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.sort();
        ensure!(!files.is_empty(), "the archive has no plugins");
        Ok(files)
    }

    /// What the runner itself says of them.
    fn check_libraries(&self, glibc: Option<&str>, manner: Manner) -> Result<()> {
        let mut check = self.runner();
        check.arg("check").args(self.libraries()?);
        if let Some(glibc) = glibc {
            check.args(["--glibc", glibc]);
        }
        cargo::run(&mut check)?;
        if manner == Manner::Debug {
            return Ok(());
        }
        let output = check.arg("--json").output()?;
        let reports: Value = serde_json::from_slice(&output.stdout)?;
        for report in reports.as_array().into_iter().flatten() {
            let findings = report["findings"].as_array().context("no findings")?;
            let file = &report["file"];
            ensure!(findings.is_empty(), "{file}: {findings:?}");
        }
        Ok(())
    }

    /// With nothing but the archive and a Rust toolchain; what plugin-api needs comes from where cargo has it.
    fn write_a_plugin(&self) -> Result<()> {
        cargo::run(self.runner().args(["new", "from-the-archive"]))?;
        let made = self.0.join("from-the-archive");
        // The versions that are here already.
        fs::copy(cargo::root().join("Cargo.lock"), made.join("Cargo.lock"))?;
        let mut build = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
        ] {
            if let Some(value) = std::env::var_os(name) {
                build.env(name, value);
            }
        }
        cargo::run(
            build
                .current_dir(&made)
                .args(["build", "--quiet", "--offline"]),
        )?;
        let library = made.join("target/debug/libfrom_the_archive.so");
        cargo::run(self.runner().arg("check").arg(library))
    }

    /// On a socket, with a gateway in front of it.
    fn serve(&self) -> Result<()> {
        let (socket, state) = (self.0.join("runner.sock"), self.0.join("state"));
        let config = self.0.join("smoke.yaml");
        fs::write(&config, format!("state:\n  dir: {}\n", state.display()))?;
        let mut start = self.runner();
        start.args(["start", "--plugins", "example-plugins", "--config"]);
        start.arg(&config);
        start.env(
            "APISIX_LISTEN_ADDRESS",
            format!("unix:{}", socket.display()),
        );
        let mut runner = Running::start(&mut start)?;
        runner.wait_for_socket(&socket, PATIENCE)?;
        let mut dev = self.runner();
        dev.args([
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--routes",
            "conf/demo.yaml",
        ]);
        let mut gateway = Running::start(dev.arg("--runner-socket").arg(&socket))?;
        let address = gateway.wait_for_address(PATIENCE)?;
        for (target, status, part) in [
            ("/stop", 200, "Hello, Rust Runner of APISIX"),
            ("/rewrite?colour=blue", 200, "/a6/rust/runner"),
            ("/response-rewrite", 202, "The upstream got: GET"),
            ("/say", 200, "hello from a shared library"),
            ("/members", 401, "No API key"),
        ] {
            let wanted = |answer: &crate::http::Answer| {
                answer.status == status && answer.text().contains(part)
            };
            get_until(address, target, PATIENCE, wanted)
                .with_context(|| format!("expected {status} with `{part}`"))?;
        }
        let ready = ["status", "--ready", "--config"];
        cargo::run(self.runner().args(ready).arg(&config))?;
        gateway.stop().context("the local gateway")?;
        runner.stop().context("the runner")
    }
}
