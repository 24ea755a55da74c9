//! The crates under development: builds one when its files change and lays its library into the plugins folder, from
//! where the runner takes it like any other. What does not build changes nothing there.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use anyhow::Context as _;
use plugin_api::abi::metadata::SECTION;

use super::Options;
use super::crates::{Built, Crate, Manner};
use super::journal::{Journal, Kind};
use super::screen::{Screen, tell};
use super::sources::{Alarm, Snapshot};
use crate::exit::Failure;
use crate::plugins::elf;
use crate::plugins::metadata::{About, Metadata};

/// All crates.
pub(super) struct Rebuild {
    crates: Vec<Member>,
    folder: PathBuf,
    manner: Manner,
    screen: Screen,
    alarm: Alarm,
    journal: Arc<Journal>,
    /// What requests are told until everything has been built once.
    waiting: Arc<RwLock<String>>,
}

struct Member {
    of: Crate,
    /// Files outside of its folder that it is made of.
    sources: Vec<PathBuf>,
    /// As they were before the last build.
    built: Snapshot,
    /// Its library in the folder, and what that says of itself.
    laid: Option<(PathBuf, About)>,
}

impl Rebuild {
    /// # Errors
    /// A folder is no crate that makes a plugin's library.
    pub(super) async fn new(
        options: &Options,
        folder: PathBuf,
        journal: Arc<Journal>,
        screen: Screen,
    ) -> anyhow::Result<Self> {
        let mut crates = Vec::new();
        for source in &options.crates {
            let of = Crate::find(source).await?;
            if crates
                .iter()
                .any(|member: &Member| member.of.folder == of.folder)
            {
                let twice = format!("--crate names {} twice", source.display());
                return Err(Failure::new(twice).usage().into());
            }
            crates.push(Member {
                of,
                sources: Vec::new(),
                built: Snapshot::default(),
                laid: None,
            });
        }
        let colours = screen.error_colours;
        Ok(Self {
            crates,
            folder,
            manner: Manner {
                release: options.release,
                colours,
            },
            screen,
            alarm: Alarm::new(),
            journal,
            waiting: Arc::default(),
        })
    }

    /// What requests are told while [`Rebuild::first`] runs.
    pub(super) fn waiting(&self) -> Arc<RwLock<String>> {
        self.waiting.clone()
    }

    /// Builds until every crate has a library in the folder; what they say of themselves.
    ///
    /// # Errors
    /// cargo cannot be started, two crates make the same plugin, or the folder cannot be written.
    pub(super) async fn first(&mut self) -> anyhow::Result<Vec<About>> {
        loop {
            for index in 0..self.crates.len() {
                if self.changed(index) {
                    self.build(index).await?;
                }
            }
            let laid = self.crates.iter().filter_map(|member| member.laid.clone());
            let laid = laid.map(|(_, about)| about);
            let laid: Vec<_> = laid.collect();
            if laid.len() == self.crates.len() {
                return Ok(laid);
            }
            tell("waiting for a change in the crate");
            self.wait().await;
        }
    }

    /// Builds what changes, for ever. A build that fails leaves the library before it in the folder.
    pub(super) async fn follow(&mut self) -> Infallible {
        loop {
            self.wait().await;
            for index in 0..self.crates.len() {
                if self.changed(index)
                    && let Err(error) = self.build(index).await
                {
                    self.note(Kind::Fault, &format!("{error:#}"));
                }
            }
        }
    }

    fn changed(&self, index: usize) -> bool {
        let member = &self.crates[index];
        Snapshot::of(&member.of, &member.sources) != member.built
    }

    async fn wait(&mut self) {
        let look = |member: &Member| Snapshot::of(&member.of, &member.sources);
        let seen: Vec<_> = self
            .crates
            .iter()
            .map(|member| member.built.clone())
            .collect();
        for snapshot in self.crates.iter().map(look) {
            self.alarm.watch(&snapshot);
        }
        let crates = &self.crates;
        let looked = || crates.iter().map(look).collect::<Vec<_>>();
        self.alarm.wait(&seen, looked).await;
    }

    async fn build(&mut self, index: usize) -> anyhow::Result<()> {
        let member = &self.crates[index];
        let (of, started) = (member.of.clone(), Instant::now());
        let before = Snapshot::of(&of, &member.sources);
        self.note(Kind::Build, &format!("building {} …", of.package));
        let screen = &self.screen;
        let built = of.build(self.manner, |text| screen.compiler(text)).await;
        let took = started.elapsed().as_secs_f64();
        let member = &mut self.crates[index];
        if let Ok(Built::Library { sources, .. }) = &built {
            member.sources.clone_from(sources);
        }
        // What changed during the build differs from this, and is built next.
        member.built = before.completed_by(&Snapshot::of(&of, &member.sources), &of);
        let name = &of.package;
        match built? {
            Built::Failed(errors) => {
                let keeps = match self.crates[index].laid {
                    Some(_) => "; the build before it serves on",
                    None => "",
                };
                let text = format!("{name} does not build ({took:.1} s){keeps}");
                self.note(Kind::Fault, &format!("{text}\n{errors}"));
            }
            Built::Library { file, .. } => self.lay(index, &file, took)?,
        }
        Ok(())
    }

    /// Lays a library into the folder: under a name that the runner ignores, then renamed.
    fn lay(&mut self, index: usize, file: &Path, took: f64) -> anyhow::Result<()> {
        let name = self.crates[index].of.package.clone();
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let about = match about(&bytes) {
            Ok(about) => about,
            Err(reason) => {
                self.note(Kind::Fault, &format!("{name} {reason}"));
                return Ok(());
            }
        };
        let mut others = self.crates.iter().enumerate();
        let other = others.find(|(other, member)| {
            let laid = member.laid.as_ref();
            *other != index && laid.is_some_and(|(_, laid)| laid.name == about.name)
        });
        if let Some((_, other)) = other {
            let text = format!(
                "the crates {} and {} both make the plugin `{}`",
                other.of.folder.display(),
                self.crates[index].of.folder.display(),
                about.name
            );
            let hint = "a plugin's name is its package's; #[plugin(name = \"…\")] gives another";
            return Err(Failure::new(text).hint(hint).usage().into());
        }
        let file_name = file.file_name().unwrap_or_default().to_string_lossy();
        let laid = self.folder.join(&*file_name);
        if fs::read(&laid).is_ok_and(|old| old == bytes) {
            self.note(
                Kind::Build,
                &format!("built {name} in {took:.1} s: nothing has changed"),
            );
        } else {
            let unfinished = self.folder.join(format!(".{file_name}.unfinished"));
            let written = fs::write(&unfinished, &bytes);
            written
                .and_then(|()| fs::rename(&unfinished, &laid))
                .with_context(|| format!("cannot lay {}", laid.display()))?;
            self.note(Kind::Build, &format!("built {name} in {took:.1} s"));
        }
        let before = self.crates[index].laid.replace((laid.clone(), about));
        if let Some((other, _)) = before.filter(|(before, _)| *before != laid) {
            // The package has another name now: the old library would still offer the plugin.
            fs::remove_file(&other)
                .with_context(|| format!("cannot remove {}", other.display()))?;
        }
        Ok(())
    }

    fn note(&self, kind: Kind, text: &str) {
        // The compiler's messages are on the terminal already.
        let first = text.lines().next().unwrap_or_default();
        self.screen.note(kind, first);
        self.journal.note(kind, text);
        let mut waiting = self.waiting.write().unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut waiting);
    }
}

/// What a library says of itself, or why it cannot serve here.
fn about(bytes: &[u8]) -> Result<About, String> {
    let section = elf::section(bytes, SECTION).unwrap_or_default();
    let read = Metadata::read(section).and_then(|metadata| metadata.check().cloned());
    read.map_err(|unfit| format!("{unfit}: {}", unfit.hint()))
}
