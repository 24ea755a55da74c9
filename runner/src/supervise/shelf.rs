//! What the libraries of the plugins folder say of themselves, for a person at the command line. Loads nothing into a
//! runner; opens code only to ask for a schema, in a process that does nothing else.

use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::fingerprint::Trust;
use super::folder;
use super::privileges;
use super::staging::{Outcome, Place, Staging};
use super::workshop::Refusal;
use crate::config::Config;
use crate::exit::Failure;
use crate::plugins::metadata::{About, Metadata};
use crate::plugins::{elf, library};

/// One plugin of the folder.
#[derive(Debug, Serialize)]
pub struct Offer {
    /// What its author says.
    #[serde(flatten)]
    pub about: About,
    /// The library.
    pub file: PathBuf,
    /// ABI that it was built for.
    pub abi: String,
    /// Version of plugin-api that it was built with.
    pub plugin_api: String,
    /// The compiler that built it.
    pub rustc: String,
    /// Whether it would serve.
    pub state: Standing,
    #[serde(skip)]
    copy: OwnedFd,
}

/// Whether a plugin would serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Yes.
    Serves,
    /// `plugins.enabled` or `plugins.disabled` says no.
    Disabled,
    /// Another library offers it too, and `plugins.files` names another or none.
    StandsBy,
}

impl Standing {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serves => "serves",
            Self::Disabled => "disabled",
            Self::StandsBy => "stands by",
        }
    }
}

/// A library that cannot serve.
#[derive(Debug, Serialize)]
pub struct Unusable {
    /// The library.
    pub file: PathBuf,
    /// Why, and the way out.
    #[serde(flatten)]
    pub refusal: Refusal,
}

/// The libraries of the plugins folder.
#[derive(Debug, Serialize)]
pub struct Shelf {
    /// Highest priority first, then by name.
    pub plugins: Vec<Offer>,
    /// The others.
    pub unusable: Vec<Unusable>,
}

impl Shelf {
    /// Reads the metadata of every library in the folder. No code of them runs.
    ///
    /// # Errors
    /// There is no folder, or it cannot be read or trusted.
    pub fn read(config: &Config) -> anyhow::Result<Self> {
        let Some(dir) = &config.plugins.dir else {
            bail!(Failure::new("no plugins folder").hint("set plugins.dir, or use --plugins"));
        };
        let (plugins, unusable) = (Vec::new(), Vec::new());
        let mut shelf = Self { plugins, unusable };
        for file in folder::scan(dir, trust(config))?.files.into_keys() {
            match offer(&file, config) {
                Ok(offer) => shelf.plugins.push(offer),
                Err(refusal) => shelf.unusable.push(Unusable { file, refusal }),
            }
        }
        shelf.rank(config);
        Ok(shelf)
    }

    /// The offers of a plugin, those that would serve first.
    pub fn named(&self, plugin: &str) -> Option<&Offer> {
        let mut offers = self
            .plugins
            .iter()
            .filter(|offer| offer.about.name == plugin);
        let first = offers.next()?;
        let serves = |offer: &&Offer| offer.state == Standing::Serves;
        Some(
            offers
                .find(serves)
                .filter(|_| !serves(&first))
                .unwrap_or(first),
        )
    }

    fn rank(&mut self, config: &Config) {
        let plugins = &config.plugins;
        let names: Vec<String> = self
            .plugins
            .iter()
            .map(|it| it.about.name.clone())
            .collect();
        for offer in &mut self.plugins {
            let name = &offer.about.name;
            let enabled = plugins
                .enabled
                .as_ref()
                .is_none_or(|all| all.contains(name));
            let alone = names.iter().filter(|other| *other == name).count() == 1;
            let chosen = plugins
                .files
                .get(name)
                .map(|file| offer.file.ends_with(file));
            offer.state = match chosen {
                _ if !enabled || plugins.disabled.contains(name) => Standing::Disabled,
                Some(true) => Standing::Serves,
                None if alone => Standing::Serves,
                _ => Standing::StandsBy,
            };
        }
        self.plugins.sort_by(|one, other| {
            let key = |offer: &Offer| (-i64::from(offer.about.priority), offer.about.name.clone());
            key(one).cmp(&key(other))
        });
    }
}

impl Offer {
    /// The JSON Schema of its conf, null when it has none. Opens the library and runs its constructors, as
    /// `worker.user` if we are root: for a process that ends soon.
    ///
    /// # Errors
    /// The library cannot be opened.
    pub fn schema(&self, config: &Config) -> anyhow::Result<Value> {
        if let Some(identity) = privileges::identity(config.worker.user.as_deref())? {
            privileges::become_user(identity).context("cannot become `worker.user`")?;
        }
        let copy = self.copy.try_clone()?.into_raw_fd();
        let module = library::open(Path::new(&format!("/proc/self/fd/{copy}")))
            .with_context(|| format!("{} cannot be used", self.file.display()))?;
        let described: Value = serde_json::from_str(&module.describe()())?;
        Ok(described.get("schema").cloned().unwrap_or_default())
    }
}

fn trust(config: &Config) -> Trust {
    Trust {
        root: rustix::process::geteuid().is_root(),
        allow_writable: config.plugins.allow_writable,
    }
}

fn offer(file: &Path, config: &Config) -> Result<Offer, Refusal> {
    let staging = Staging {
        place: Place::Memory,
        trust: trust(config),
        allow: config.plugins.allow.clone(),
        known: crate::supervise::last_good::Known::default(),
        seen: std::sync::Mutex::default(),
    };
    let copy = match staging.stage(file, 1) {
        Outcome::Staged { copy, .. } => Some(copy),
        Outcome::Refused(_, refusal) => return Err(refusal),
        Outcome::Unsettled => None,
    };
    let refusal = |cause: &str| Refusal {
        cause: cause.to_owned(),
        hint: None,
    };
    let copy = copy.ok_or_else(|| refusal("it is being written, or gone again"))?;
    let opened = copy
        .try_clone()
        .map_err(|error| refusal(&error.to_string()))?;
    let opened = std::fs::File::from(opened);
    let bytes = elf::reader(&opened);
    let section = elf::section(&bytes, plugin_api::abi::metadata::SECTION);
    let metadata = Metadata::read(section.unwrap_or_default())?;
    let about = metadata.check()?.clone();
    Ok(Offer {
        about,
        file: file.to_owned(),
        abi: format!("{}.{}", metadata.abi.0, metadata.abi.1),
        plugin_api: metadata.text.api,
        rustc: metadata.text.rustc,
        state: Standing::Serves,
        copy,
    })
}
