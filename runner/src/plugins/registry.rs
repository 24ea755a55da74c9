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
    /// The file that served last; `None` until one has.
    served: Option<PathBuf>,
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
    /// The configuration names a file that does not offer it.
    NotChosen {
        /// What `plugins.files` says.
        chosen: String,
        /// The files that do.
        offered: Vec<String>,
    },
}

impl Registry {
    /// An empty registry that is not open yet.
    pub fn new(files: BTreeMap<String, String>) -> Self {
        Self {
            files,
            state: Mutex::default(),
        }
    }

    /// Adds a generation, instead of what its file gave before. Returns what changed: nothing, while another library
    /// serves the name or the registry is not open.
    pub fn add(&self, generation: &Arc<Generation>) -> Vec<Change> {
        let mut state = self.lock();
        state.numbers.retain(|_, known| known.strong_count() > 0);
        state
            .numbers
            .insert(generation.number, Arc::downgrade(generation));
        let (name, file) = (generation.name(), &generation.file);
        let offers = state.names.entry(name.to_owned()).or_default();
        offers.by_file.insert(file.clone(), Arc::clone(generation));
        let before = state.names.iter_mut().filter(|(other, _)| *other != name);
        before.for_each(|(_, offers)| drop(offers.by_file.remove(file)));
        self.choose(&mut state)
    }

    /// Knows a generation that serves no name: only confs that its successor refuses.
    pub fn add_older(&self, generation: &Arc<Generation>) {
        let numbers = &mut self.lock().numbers;
        numbers.insert(generation.number, Arc::downgrade(generation));
    }

    /// Takes away what a file offered. Another library that offers the same plugin takes over.
    pub fn remove(&self, file: &Path) -> Vec<Change> {
        let mut state = self.lock();
        for offers in state.names.values_mut() {
            offers.by_file.remove(file);
        }
        self.choose(&mut state)
    }

    /// Ends the collecting. `served`: the files that served each name in the worker before this one, which has not
    /// been a cold start then. Returns what serves from now on.
    pub fn open(&self, served: &BTreeMap<String, PathBuf>) -> Vec<Change> {
        let mut state = self.lock();
        state.open = true;
        for (name, offers) in &mut state.names {
            offers.served = served.get(name).cloned();
        }
        self.choose(&mut state)
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
            let offered = files.collect();
            match self.files.get(name).cloned() {
                Some(chosen) => Unserved::NotChosen { chosen, offered },
                None => Unserved::Ambiguous(offered),
            }
        })
    }

    /// All that are alive, for a change of the log level.
    pub fn alive(&self) -> Vec<Arc<Generation>> {
        self.lock()
            .numbers
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// The one of this number, if it is alive.
    pub fn numbered(&self, number: u64) -> Option<Arc<Generation>> {
        self.lock().numbers.get(&number)?.upgrade()
    }

    /// Number of plugin names that are served.
    pub fn served(&self) -> usize {
        self.lock()
            .names
            .values()
            .filter(|offers| offers.serving.is_some())
            .count()
    }

    /// Lets every name be served by whom it should. Nothing changes before the registry is open.
    fn choose(&self, state: &mut State) -> Vec<Change> {
        if !state.open {
            return Vec::new();
        }
        let names = state.names.iter_mut();
        let changes = names.filter_map(|(name, offers)| {
            offers.choose(name, self.files.get(name).map(String::as_str))
        });
        let changes = changes.collect();
        state.names.retain(|_, offers| !offers.by_file.is_empty());
        changes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offers {
    /// The file that the configuration names; else the one that serves already; else the only one.
    fn choose(&mut self, name: &str, chosen: Option<&str>) -> Option<Change> {
        let served = self.served.as_ref().and_then(|file| self.by_file.get(file));
        let now = match (chosen, served) {
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
        self.served = now.as_ref().map(|now| now.file.clone());
        self.serving = now.clone();
        Some(Change {
            name: name.to_owned(),
            now,
        })
    }
}

#[cfg(test)]
mod tests;
