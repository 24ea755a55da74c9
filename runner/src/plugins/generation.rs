//! One loaded build of a library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plugin_api::abi::numbers::phase;
use plugin_api::abi::{HostRef, ModuleRef};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::blame::{activity, during};
use super::instance::{Init, Instance, Purpose};
use super::library::{self, OpenError};
use super::metadata::{About, Needs};
use super::pace::Pace;
use super::schema::Schema;
use super::tally::Tally;
use crate::config::Config;

/// Confs of one generation that are configured at once: one that hangs in all of them leaves threads for the others.
pub(super) const CONFIGURED_AT_ONCE: usize = 8;

/// A library on its way to become a generation.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Number of the generation: never 0, never used twice.
    pub number: u64,
    /// The file in the plugins folder.
    pub file: PathBuf,
    /// The private copy, under a path that was never opened before.
    pub copy: PathBuf,
    /// What its metadata says.
    pub about: About,
}

/// A loaded build. The last call or conf that holds it drops the instance; the code stays mapped.
#[derive(Debug)]
pub struct Generation {
    /// Its number: never 0, never used twice.
    pub number: u64,
    /// The file in the plugins folder.
    pub file: PathBuf,
    /// What the author says of the plugin.
    pub about: About,
    /// What may stand in its conf; `None` when it reads the bytes itself.
    pub schema: Option<Schema>,
    /// Phases it has, as bits `1 << numbers::phase`.
    pub phases: u32,
    /// Where its code may run.
    pub pace: Pace,
    /// One permit for each of its confs that is being configured.
    pub configuring: Arc<Semaphore>,
    /// What it has done.
    pub tally: Tally,
    pub(super) forbidden: AtomicBool,
    pub(super) instance: Instance,
}

/// Why a library does not become a generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Refused {
    /// What is wrong, without the file's name.
    pub cause: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Candidate {
    /// Opens the copy: its constructors run.
    ///
    /// # Errors
    /// It cannot be opened, or does not fit.
    pub fn open(&self) -> Result<ModuleRef, Refused> {
        let opened = during(self.number, activity::OPEN, 0, || library::open(&self.copy));
        opened.map_err(|error| {
            let hint = match &error {
                OpenError::Linker(_) => "`plugin-runner check FILE` lists what this machine lacks",
                _ => "rebuild it against the plugin-api of this runner's ABI",
            };
            Refused {
                cause: error.to_string(),
                hint: Some(hint.to_owned()),
            }
        })
    }
}

impl Generation {
    /// Runs `init_worker` of a library that [`Candidate::open`] has opened. Runs author code; may take long.
    ///
    /// # Errors
    /// Its `init_worker` failed.
    pub fn start(
        candidate: Candidate,
        module: ModuleRef,
        purpose: Purpose,
        config: &Config,
        host: HostRef,
    ) -> Result<Arc<Self>, Refused> {
        let about = candidate.about;
        let described: Value = serde_json::from_str(&module.describe()()).unwrap_or_default();
        let schema = described.get("schema").cloned().unwrap_or_default();
        let schema = Schema::new(schema).map_err(|error| Refused {
            cause: format!("the JSON Schema of its configuration cannot be used: {error}"),
            hint: Some("see `schemars` attributes on its Config".to_owned()),
        })?;
        let init = Init {
            purpose,
            generation: candidate.number,
            level: crate::telemetry::level() as u32,
            settings: config
                .plugins
                .settings
                .get(&about.name)
                .unwrap_or(&Value::Null),
        };
        let instance = Instance::init(module, host, &init).map_err(|error| Refused {
            cause: format!("its init_worker failed: {error}"),
            hint: None,
        })?;
        Ok(Arc::new(Self {
            number: candidate.number,
            file: candidate.file,
            schema,
            phases: bits(&about.phases),
            pace: Pace::new(about.blocking, config.worker.threads_per_plugin),
            configuring: Arc::new(Semaphore::new(CONFIGURED_AT_ONCE)),
            tally: Tally::default(),
            forbidden: AtomicBool::new(false),
            about,
            instance,
        }))
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// Name of the library's file, without the folder.
    pub fn file_name(&self) -> &str {
        file_name(&self.file)
    }

    /// Whether it has a phase (`numbers::phase`).
    pub fn has(&self, phase: u32) -> bool {
        self.phases & 1 << phase != 0
    }

    /// What its phases need beyond the frame.
    pub fn needs(&self) -> impl Iterator<Item = (u32, &Needs)> {
        self.about
            .needs
            .iter()
            .filter_map(|(name, needs)| Some((number(name)?, needs)))
    }

    /// Lets no conf stay on it from the next assembly on.
    pub fn forbid(&self) {
        self.forbidden.store(true, Ordering::Release);
    }

    /// Whether no conf may stay on it.
    pub fn is_forbidden(&self) -> bool {
        self.forbidden.load(Ordering::Acquire)
    }

    /// Sets the level of the plugin's events.
    pub fn set_level(&self, level: u32) {
        self.instance.set_level(level);
    }
}

/// Name of a library's file, without the folder.
pub fn file_name(file: &Path) -> &str {
    file.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

const PHASES: [(&str, u32); 6] = [
    ("certificate", phase::CERTIFICATE),
    ("rewrite", phase::REWRITE),
    ("access", phase::ACCESS),
    ("header_filter", phase::HEADER_FILTER),
    ("body_filter", phase::BODY_FILTER),
    ("log", phase::LOG),
];

pub(super) fn bits(phases: &[String]) -> u32 {
    phases
        .iter()
        .filter_map(|name| number(name))
        .fold(0, |bits, number| bits | 1 << number)
}

fn number(phase: &str) -> Option<u32> {
    PHASES
        .iter()
        .find(|(name, _)| *name == phase)
        .map(|(_, number)| *number)
}

/// The author's name of a phase.
pub fn phase_name(phase: u32) -> &'static str {
    PHASES
        .iter()
        .find(|(_, number)| *number == phase)
        .map_or("unknown", |(name, _)| name)
}
