//! A newcomer's walk: types what the README says, line by line, in a fresh clone in an empty folder, and fails on any
//! stumble. Prints how long each step took.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo;
use crate::running::Running;

/// Where the commands stand in the README.
const CHAPTER: &str = "## Develop a plugin";
/// What the README's `curl` lines have to show, in their order: before and after the edit.
const SHOWN: [&str; 2] = ["hello\n", "good morning\n"];
/// Where the README says that `dev` listens; the walk takes a free port.
const ADDRESS: &str = "127.0.0.1:9080";
const PATH_LINE: &str = "export PATH=\"$PWD/target/debug:$PATH\"";
/// A first build of everything on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1800);
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the task.
///
/// # Errors
/// An argument is unknown, or a step does not work.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let (mut folder, mut with_dist) = (None, true);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--to" => folder = arguments.next().map(PathBuf::from),
            "--without-dist" => with_dist = false,
            _ => crate::no_more("walk", &[argument])?,
        }
    }
    let given = folder.is_some();
    let temporary =
        || std::env::temp_dir().join(format!("plugin-runner-walk-{}", std::process::id()));
    let folder = folder.unwrap_or_else(temporary);
    fs::create_dir(&folder)
        .with_context(|| format!("the walk needs an empty folder: {}", folder.display()))?;
    let walked = whole(&folder, with_dist);
    if !given {
        fs::remove_dir_all(&folder)?;
    }
    walked
}

fn whole(folder: &Path, with_dist: bool) -> Result<()> {
    let started = Instant::now();
    let mut walk = Walk::new(folder, None);
    let clone = format!(
        "git clone --quiet {} plugin-runner",
        cargo::root().display()
    );
    walk.step(&clone)?;
    for line in lines()? {
        walk.step(&line)?;
    }
    walk.end()?;
    if with_dist {
        walk.cwd = folder.join("plugin-runner");
        walk.step("cargo xtask dist")?;
    }
    println!("{:7.1} s  in all", started.elapsed().as_secs_f64());
    Ok(())
}

/// The middle of it, from the new plugin to the changed one, with a runner and a target folder that are there already.
///
/// # Errors
/// A step does not work.
pub fn middle(folder: &Path, runner: &Path, target: &Path) -> Result<()> {
    let mut walk = Walk::new(folder, Some(target.to_owned()));
    let programs = runner.parent().context("the runner lies nowhere")?;
    walk.path = format!("{}:{}", programs.display(), walk.path);
    let lines = lines()?;
    let from = |line: &String| line.starts_with("plugin-runner new");
    let to = |line: &String| line.starts_with("cargo build --release");
    for line in lines
        .iter()
        .skip_while(|line| !from(line))
        .take_while(|line| !to(line))
    {
        walk.step(line)?;
    }
    walk.end()
}

/// The commands of the README's chapter, up to its first part.
fn lines() -> Result<Vec<String>> {
    let readme = fs::read_to_string(cargo::root().join("README.md"))?;
    let chapter = readme.split_once(CHAPTER).map(|(_, chapter)| chapter);
    let chapter = chapter.with_context(|| format!("the README has no `{CHAPTER}`"))?;
    let chapter = chapter.split("\n##").next().unwrap_or(chapter);
    let blocks = chapter.split("```sh\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let lines = blocks
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty());
    Ok(lines.map(str::to_owned).collect())
}

/// Somebody at a terminal.
struct Walk {
    cwd: PathBuf,
    path: String,
    /// Instead of each crate's own.
    target: Option<PathBuf>,
    /// What runs in the other terminal, and where it listens.
    dev: Option<(Running, String)>,
    shown: VecDeque<&'static str>,
}

impl Walk {
    fn new(folder: &Path, target: Option<PathBuf>) -> Self {
        Self {
            cwd: folder.to_owned(),
            path: std::env::var("PATH").unwrap_or_default(),
            target,
            dev: None,
            shown: SHOWN.into(),
        }
    }

    /// Types one line.
    fn step(&mut self, line: &str) -> Result<()> {
        let started = Instant::now();
        let typed = line.split("  #").next().unwrap_or(line).trim_end();
        self.take(typed)
            .with_context(|| format!("the step `{typed}` stumbles"))?;
        println!("{:7.1} s  {typed}", started.elapsed().as_secs_f64());
        Ok(())
    }

    fn take(&mut self, line: &str) -> Result<()> {
        if let Some(folder) = line.strip_prefix("cd ") {
            self.cwd = self.cwd.join(folder).canonicalize()?;
            return Ok(());
        }
        if line == PATH_LINE {
            self.path = format!("{}/target/debug:{}", self.cwd.display(), self.path);
            return Ok(());
        }
        if line.starts_with("plugin-runner dev ") {
            let mut dev =
                Running::start(&mut self.command(&format!("exec {line} --listen 127.0.0.1:0")))?;
            let address = dev.wait_for_address(PATIENCE)?.to_string();
            self.dev = Some((dev, address));
            return Ok(());
        }
        if line.starts_with("curl ") {
            return self.curl(line);
        }
        let output = self.command(line).stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        ensure!(
            output.status.success(),
            "it failed ({}):\n{said}",
            output.status
        );
        self.keep_versions(line)
    }

    /// Asks until the answer is what the README promises: after an edit that takes a build.
    fn curl(&mut self, line: &str) -> Result<()> {
        let wanted = self.shown.pop_front().context("one `curl` too many")?;
        let (_, address) = self.dev.as_ref().context("nothing serves")?;
        let line = line
            .replace(ADDRESS, address)
            .replace("curl ", "curl --silent ");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.command(&line).output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            if text == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("expected {wanted:?}, got {text:?}");
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// With somebody else's target folder: the versions that were built there, so that they are not built again.
    fn keep_versions(&self, line: &str) -> Result<()> {
        let name = line.strip_prefix("plugin-runner new ");
        if let Some(name) = name.filter(|_| self.target.is_some()) {
            let lock = self.cwd.join(name).join("Cargo.lock");
            fs::copy(cargo::root().join("Cargo.lock"), lock)?;
        }
        Ok(())
    }

    /// A line in a shell, with nothing of the cargo that runs us.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(&self.cwd);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if (text.starts_with("CARGO") && text != "CARGO_HOME")
                || text.starts_with("RUST") && text != "RUSTUP_HOME"
            {
                command.env_remove(&name);
            }
        }
        command.env("PATH", &self.path).env("NO_COLOR", "1");
        if let Some(target) = &self.target {
            command.env("CARGO_TARGET_DIR", target);
            // As in the workspace.
            command.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        }
        command
    }

    /// Ctrl-C in the other terminal.
    fn end(&mut self) -> Result<()> {
        ensure!(self.shown.is_empty(), "the README lacks a `curl`");
        match self.dev.take() {
            Some((dev, _)) => dev.stop().context("plugin-runner dev"),
            None => bail!("the README lacks `plugin-runner dev`"),
        }
    }
}
