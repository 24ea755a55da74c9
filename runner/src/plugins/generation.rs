//! One loaded build of a library.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plugin_api::abi::HostRef;
use plugin_api::abi::numbers::phase;
use serde_json::Value;

use super::instance::{Init, Instance};
use super::library;
use super::metadata::{About, Needs};
use super::pace::Pace;
use super::schema::Schema;
use crate::config::Config;

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
    /// Phases that failed.
    pub failures: AtomicU64,
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

impl Generation {
    /// Opens the copy and runs `init_worker`. Runs author code; may take long.
    ///
    /// # Errors
    /// The library cannot be opened, or its `init_worker` failed.
    pub fn load(
        candidate: Candidate,
        config: &Config,
        host: HostRef,
    ) -> Result<Arc<Self>, Refused> {
        let module = library::open(&candidate.copy).map_err(|error| Refused {
            cause: error.to_string(),
            hint: Some("rebuild it against the plugin-api of this runner's ABI".to_owned()),
        })?;
        let about = candidate.about;
        let described: Value = serde_json::from_str(&module.describe()()).unwrap_or_default();
        let schema = described.get("schema").cloned().unwrap_or_default();
        let schema = Schema::new(schema).map_err(|error| Refused {
            cause: format!("the JSON Schema of its configuration cannot be used: {error}"),
            hint: Some("see `schemars` attributes on its Config".to_owned()),
        })?;
        let init = Init {
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
            failures: AtomicU64::new(0),
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

    /// Counts a phase that failed.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
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

fn bits(phases: &[String]) -> u32 {
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
