//! Whether a private copy may be opened here: its metadata and the configuration decide, before any of its code runs.

use std::fs;

use super::workshop::{Library, LoadedPlugin, Refusal};
use crate::config::Plugins;
use crate::plugins::elf;
use crate::plugins::generation::{Candidate, Generation, Refused};
use crate::plugins::metadata::{About, Metadata, Unfit};
use crate::request::plugin_log;

/// The library on its way to become a generation. Its events are logged under its plugin's name from here on.
///
/// # Errors
/// It does not fit this runner, or is not wanted.
pub(super) fn candidate(library: &Library, plugins: &Plugins) -> Result<Candidate, Refusal> {
    let file = fs::File::open(&library.path).map_err(|error| Refusal {
        cause: format!("its private copy cannot be read: {error}"),
        hint: Some("see that `state.dir` can be searched by `worker.user`".to_owned()),
    })?;
    let bytes = elf::reader(&file);
    let section = elf::section(&bytes, plugin_api::abi::metadata::SECTION);
    let metadata = Metadata::read(section.unwrap_or_default())?;
    let about = metadata.check()?;
    wanted(about, plugins)?;
    plugin_log::introduce(library.generation, &about.name);
    Ok(Candidate {
        number: library.generation,
        file: library.file.clone(),
        copy: library.path.clone(),
        about: about.clone(),
    })
}

/// What a generation offers.
pub(super) fn offer(generation: &Generation) -> LoadedPlugin {
    LoadedPlugin {
        name: generation.name().to_owned(),
        version: generation.about.version.clone(),
        priority: generation.about.priority,
        phases: generation.about.phases.clone(),
    }
}

fn wanted(about: &About, plugins: &Plugins) -> Result<(), Refusal> {
    if plugins.wants(&about.name) {
        return Ok(());
    }
    Err(Refusal {
        cause: format!("its plugin `{}` is not enabled", about.name),
        hint: Some("see `plugins.enabled` and `plugins.disabled` in the configuration".to_owned()),
    })
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        Self {
            cause: unfit.to_string(),
            hint: Some(unfit.hint().to_owned()),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self {
            cause: refused.cause,
            hint: refused.hint,
        }
    }
}
