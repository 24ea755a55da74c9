//! Which generation serves each plugin name. Calls never come here: they hold a snapshot of their chain.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::generation::{Generation, file_name};

/// All generations, by plugin name and by number.
#[derive(Debug, Default)]
pub struct Registry {
    /// `plugins.files`: which file shall serve a name that several libraries offer.
    files: BTreeMap<String, String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Before that, libraries are only collected: of two that offer one name, neither may win by being read first.
    open: bool,
    names: HashMap<String, Offers>,
    numbers: HashMap<u64, Weak<Generation>>,
}

/// The libraries that offer one plugin.
#[derive(Debug, Default)]
struct Offers {
    by_file: BTreeMap<PathBuf, Arc<Generation>>,
    serving: Option<Arc<Generation>>,
}

/// What a name is served by after a change.
#[derive(Debug, Clone)]
pub struct Change {
    /// The plugin's name.
    pub name: String,
    /// `None`: nobody serves it any more.
    pub now: Option<Arc<Generation>>,
}

/// Why a plugin name is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// No library offers it.
    Unknown,
    /// Several libraries offer it, and none has served before.
    Ambiguous(Vec<String>),
}

impl Registry {
    /// An empty registry that is not open yet.
    pub fn new(files: BTreeMap<String, String>) -> Self {
        Self {
            files,
            state: Mutex::default(),
        }
    }

    /// Adds a generation, instead of the one that its file gave before. Returns what changed: nothing, while another
    /// library serves the name or the registry is not open.
    pub fn add(&self, generation: &Arc<Generation>) -> Option<Change> {
        let mut state = self.lock();
        state.numbers.retain(|_, known| known.strong_count() > 0);
        state
            .numbers
            .insert(generation.number, Arc::downgrade(generation));
        let open = state.open;
        let offers = state.names.entry(generation.name().to_owned()).or_default();
        offers
            .by_file
            .insert(generation.file.clone(), Arc::clone(generation));
        if !open {
            return None;
        }
        let chosen = self.files.get(generation.name()).map(String::as_str);
        offers.choose(generation.name(), chosen)
    }

    /// Takes away what a file offered. Another library that offers the same plugin takes over.
    pub fn remove(&self, file: &Path) -> Vec<Change> {
        let mut state = self.lock();
        let open = state.open;
        let mut changes = Vec::new();
        for (name, offers) in &mut state.names {
            if offers.by_file.remove(file).is_some() && open {
                let chosen = self.files.get(name).map(String::as_str);
                changes.extend(offers.choose(name, chosen));
            }
        }
        state.names.retain(|_, offers| !offers.by_file.is_empty());
        changes
    }

    /// Ends the collecting. Returns what serves from now on.
    pub fn open(&self) -> Vec<Change> {
        let mut state = self.lock();
        state.open = true;
        let names = state.names.iter_mut();
        names
            .filter_map(|(name, offers)| {
                offers.choose(name, self.files.get(name).map(String::as_str))
            })
            .collect()
    }

    /// Whether the collecting has ended.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// The generation that serves a name.
    ///
    /// # Errors
    /// Why there is none.
    pub fn serving(&self, name: &str) -> Result<Arc<Generation>, Unserved> {
        let state = self.lock();
        let offers = state.names.get(name).ok_or(Unserved::Unknown)?;
        offers.serving.clone().ok_or_else(|| {
            let files = offers.by_file.keys().map(|file| file_name(file).to_owned());
            Unserved::Ambiguous(files.collect())
        })
    }

    /// The generation of a number, while something holds it.
    pub fn generation(&self, number: u64) -> Option<Arc<Generation>> {
        self.lock().numbers.get(&number).and_then(Weak::upgrade)
    }

    /// All that are alive, for a change of the log level.
    pub fn alive(&self) -> Vec<Arc<Generation>> {
        self.lock()
            .numbers
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Number of plugin names that are served.
    pub fn served(&self) -> usize {
        self.lock()
            .names
            .values()
            .filter(|offers| offers.serving.is_some())
            .count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offers {
    /// The file that the configuration names; else the one that serves already; else the only one.
    fn choose(&mut self, name: &str, chosen: Option<&str>) -> Option<Change> {
        let serves = self.serving.as_ref().map(|serving| serving.file.as_path());
        let now = match (chosen, serves.and_then(|file| self.by_file.get(file))) {
            (Some(chosen), _) => self
                .by_file
                .values()
                .find(|offer| offer.file_name() == chosen),
            (None, Some(same_file)) => Some(same_file),
            (None, None) if self.by_file.len() == 1 => self.by_file.values().next(),
            (None, None) => None,
        };
        let now = now.cloned();
        let number = |generation: &Option<Arc<Generation>>| generation.as_ref().map(|it| it.number);
        if number(&now) == number(&self.serving) {
            return None;
        }
        self.serving = now.clone();
        Some(Change {
            name: name.to_owned(),
            now,
        })
    }
}
