//! Builds that crash the worker again and again, by their hash: not loaded until somebody releases them. Outlives the
//! process in `state.dir/quarantine`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::state::StateDir;
use super::workshop::{Refusal, Sha256};

/// The file in `state.dir`.
const NAME: &str = "quarantine";
/// Bytes of it at most.
const LONGEST: u64 = 1 << 20;
/// A build that nobody has asked for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(90 * 86_400);

/// When a build is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// So many crashes …
    pub(super) crashes: usize,
    /// … within this time.
    pub(super) window: Duration,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Quarantine {
    rule: Rule,
    crashes: HashMap<Sha256, VecDeque<Instant>>,
    held: BTreeMap<String, Held>,
    /// The file could not be written: what it says is older than `held`.
    unwritten: bool,
    folder: Option<StateDir>,
}

/// A build that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Where it lay.
    pub(super) file: PathBuf,
    /// The plugins that it offered.
    pub(super) plugins: Vec<String>,
    /// Why.
    pub(super) cause: String,
    /// Seconds since 1970.
    pub(super) since: u64,
}

impl Quarantine {
    /// Takes up what earlier runners held. Without a folder, memory is all there is.
    pub(super) fn open(rule: Rule, folder: Option<StateDir>) -> Self {
        let mut quarantine = Self {
            rule,
            crashes: HashMap::new(),
            held: BTreeMap::new(),
            unwritten: false,
            folder,
        };
        quarantine.take_up();
        quarantine
    }

    /// A build has crashed the worker; why it is to be held from now on, if it is.
    pub(super) fn crashed(&mut self, sha256: Sha256, now: Instant) -> Option<String> {
        let Rule { crashes, window } = self.rule;
        // Of other builds too: their times would be kept for ever.
        self.crashes.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) <= window);
            !times.is_empty()
        });
        let times = self.crashes.entry(sha256).or_default();
        times.push_back(now);
        let many = times.len();
        (many >= crashes).then(|| {
            let times = if many == 1 { "time" } else { "times" };
            format!("it ended the worker {many} {times} within {window:?}: it is quarantined")
        })
    }

    /// Holds a build.
    pub(super) fn hold(
        &mut self,
        sha256: Sha256,
        file: &Path,
        plugins: Vec<String>,
        cause: String,
    ) {
        self.crashes.remove(&sha256);
        self.take_up();
        let held = Held {
            file: file.to_owned(),
            plugins,
            cause,
            since: unix_time(),
        };
        self.held.insert(sha256.to_string(), held);
        self.write();
    }

    /// Why a build is not loaded, if it is not.
    pub(super) fn refusal(&self, sha256: Sha256) -> Option<Refusal> {
        let held = self.held.get(&sha256.to_string())?;
        let name = held.plugins.first().map_or("PLUGIN", String::as_str);
        Some(Refusal {
            cause: held.cause.clone(),
            hint: Some(format!(
                "put a corrected build in its place, or end it with `plugin-runner release {name}`"
            )),
        })
    }

    /// Lets one build go.
    pub(super) fn release_build(&mut self, sha256: Sha256) {
        self.take_up();
        if self.held.remove(&sha256.to_string()).is_some() {
            self.write();
        }
    }

    /// Whether the build that lies in a file is held, as far as it is known.
    pub(super) fn holds(&self, file: &Path) -> bool {
        self.held.values().any(|held| held.file == file)
    }

    /// The plugins of which builds are held, and files where it is not known which plugins they offer.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.held.values().map(|held| match held.plugins.first() {
            Some(plugin) => plugin.clone(),
            None => {
                let name = held.file.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
        });
        names.collect()
    }

    /// Lets the builds of a plugin, or of a file of this name, go. Where they lay.
    pub(super) fn release(&mut self, plugin: &str) -> Vec<(PathBuf, Sha256)> {
        self.take_up();
        let mut files = Vec::new();
        self.held.retain(|sha256, held| {
            let named = held.file.file_name().is_some_and(|name| name == plugin);
            let goes = named || held.plugins.iter().any(|name| name == plugin);
            if goes && let Ok(sha256) = Sha256::try_from(sha256.clone()) {
                files.push((held.file.clone(), sha256));
            }
            !goes
        });
        if !files.is_empty() {
            self.write();
        }
        files
    }

    /// Another runner may have written the file.
    fn take_up(&mut self) {
        if self.unwritten {
            return;
        }
        let Some(folder) = &self.folder else { return };
        let bytes = match folder.read(NAME, LONGEST) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return,
            Err(cause) => {
                return tracing::warn!(cause = %cause, "the quarantine of earlier runners cannot be read");
            }
        };
        match serde_json::from_slice::<BTreeMap<String, Held>>(&bytes) {
            Ok(mut held) => {
                let now = unix_time();
                held.retain(|_, held| now.saturating_sub(held.since) < FORGOTTEN.as_secs());
                self.held = held;
            }
            Err(cause) => {
                tracing::warn!(cause = %cause, "the quarantine of earlier runners cannot be read");
            }
        }
    }

    fn write(&mut self) {
        let Some(folder) = &self.folder else { return };
        let bytes = serde_json::to_vec_pretty(&self.held).map_err(std::io::Error::from);
        let written = bytes.and_then(|bytes| folder.write(NAME, &bytes));
        self.unwritten = written.is_err();
        if let Err(cause) = written {
            tracing::warn!(
                cause = %cause,
                hint = "make room in state.dir",
                "the quarantine ends with this process"
            );
        }
    }
}

fn unix_time() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: Sha256 = Sha256([1; 32]);
    const RULE: Rule = Rule {
        crashes: 3,
        window: Duration::from_secs(60),
    };

    #[test]
    fn so_many_crashes_of_one_build_within_the_window_are_too_many() {
        let mut quarantine = Quarantine::open(RULE, None);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(quarantine.crashed(BUILD, at(0)), None);
        assert_eq!(quarantine.crashed(BUILD, at(1)), None);
        assert_eq!(quarantine.crashed(Sha256([2; 32]), at(2)), None);
        assert_eq!(quarantine.crashed(BUILD, at(61)), None, "the first is over");
        assert!(quarantine.crashed(BUILD, at(61)).is_some());
        assert_eq!(quarantine.crashed(Sha256([3; 32]), at(130)), None);
        assert_eq!(quarantine.crashes.len(), 1, "the others are forgotten");
    }

    #[test]
    fn what_is_held_outlives_the_process_until_it_is_released() {
        let place = tempfile::tempdir().unwrap();
        let open = || {
            let state = StateDir::open(&place.path().join("state")).unwrap();
            Quarantine::open(RULE, Some(state))
        };
        let mut first = open();
        let mut other = open();
        let plugins = vec!["a".to_owned()];
        first.hold(
            BUILD,
            Path::new("/p/a.so"),
            plugins,
            "it crashed".to_owned(),
        );
        other.hold(
            Sha256([2; 32]),
            Path::new("/p/b.so"),
            Vec::new(),
            "too".to_owned(),
        );
        let mut later = open();
        let refusal = later.refusal(BUILD).unwrap();
        assert_eq!(refusal.cause, "it crashed");
        assert!(refusal.hint.unwrap().contains("release a"));
        assert!(later.refusal(Sha256([3; 32])).is_none());
        assert!(later.release("c").is_empty());
        assert_eq!(later.names(), ["a", "b.so"]);
        assert_eq!(later.release("a"), [(PathBuf::from("/p/a.so"), BUILD)]);
        let other = Sha256([2; 32]);
        assert_eq!(later.release("b.so"), [(PathBuf::from("/p/b.so"), other)]);
        assert!(open().refusal(BUILD).is_none());
    }
}
