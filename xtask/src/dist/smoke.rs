//! Tries an archive as somebody who has just downloaded it: unpacked into an empty folder, nothing of the project
//! around it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

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

/// Unpacks it, checks the sums, the configuration and the libraries, starts it on a socket, sends requests, ends it.
///
/// # Errors
/// Something of that does not work.
pub(super) fn run(archive: &Path, name: &str, glibc: Option<&str>) -> Result<()> {
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
    place.check_libraries(glibc)?;
    place.serve()
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
    fn check_libraries(&self, glibc: Option<&str>) -> Result<()> {
        let mut check = self.runner();
        check.arg("check").args(self.libraries()?);
        if let Some(glibc) = glibc {
            check.args(["--glibc", glibc]);
        }
        cargo::run(&mut check)
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
