//! Which files a crate is made of, and when they have changed. Events of the file system only wake us up: what counts
//! is a look at the files. Never reads one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use super::crates::Crate;

/// An editor writes, renames and touches in one go; a formatter comes after it.
const QUIET: Duration = Duration::from_millis(120);
/// For file systems without events.
const RESCAN: Duration = Duration::from_secs(1);
/// Files of a crate that are looked at.
const MAX_FILES: usize = 10_000;

/// The state of a crate's files: time and size of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, (SystemTime, u64)>);

impl Snapshot {
    /// Looks at everything in the crate's folder, but for hidden files and what cargo builds, and at `others`.
    pub(super) fn of(of: &Crate, others: &[PathBuf]) -> Self {
        let mut files = BTreeMap::new();
        collect(&of.folder, &of.target, &mut files);
        for file in others.iter().filter(|file| !file.starts_with(&of.target)) {
            look(file, &mut files);
        }
        Self(files)
    }

    /// This look, from before a build, with what only a look after it can know: the lock file, which cargo writes,
    /// and files outside of the crate's folder that cargo has named now.
    pub(super) fn completed_by(mut self, after: &Self, of: &Crate) -> Self {
        for (file, state) in &after.0 {
            let known = self.0.contains_key(file);
            if file.ends_with("Cargo.lock") || !known && !file.starts_with(&of.folder) {
                self.0.insert(file.clone(), *state);
            }
        }
        self
    }

    fn folders(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().filter_map(|file| file.parent())
    }
}

fn collect(folder: &Path, target: &Path, files: &mut BTreeMap<PathBuf, (SystemTime, u64)>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let (path, name) = (entry.path(), entry.file_name());
        let ours = path == target || name == "target";
        if name.as_encoded_bytes().starts_with(b".") || files.len() >= MAX_FILES {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !ours => collect(&path, target, files),
            Ok(kind) if kind.is_file() => look(&path, files),
            _ => {}
        }
    }
}

fn look(file: &Path, files: &mut BTreeMap<PathBuf, (SystemTime, u64)>) {
    if let Ok(metadata) = std::fs::metadata(file)
        && let Ok(modified) = metadata.modified()
    {
        files.insert(file.to_owned(), (modified, metadata.len()));
    }
}

/// Wakes up when something happens in the folders of some snapshots.
pub(super) struct Alarm {
    /// `None`: there are no events here; the files are looked at every second.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    woken: Receiver<()>,
}

impl Alarm {
    pub(super) fn new() -> Self {
        let (wake, woken) = channel(1);
        Self {
            watcher: watcher(wake).ok(),
            watched: BTreeSet::new(),
            woken,
        }
    }

    /// From now on also these folders.
    pub(super) fn watch(&mut self, snapshot: &Snapshot) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in snapshot.folders() {
            // One that cannot be watched is looked at every second.
            if !self.watched.contains(folder)
                && watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.insert(folder.to_owned());
            }
        }
    }

    /// Waits until `look` sees something else than `seen`, and then until it stays the same for a moment.
    pub(super) async fn wait<T: PartialEq>(&mut self, seen: &T, mut look: impl FnMut() -> T) {
        loop {
            // Closed without a watcher: then only the time counts.
            if let Ok(None) = timeout(RESCAN, self.woken.recv()).await {
                sleep(RESCAN).await;
            }
            let mut now = look();
            if now == *seen {
                continue;
            }
            loop {
                sleep(QUIET).await;
                let later = look();
                if later == now {
                    return;
                }
                now = later;
            }
        }
    }
}

fn watcher(wake: Sender<()>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own looking at files makes events too.
        let looked = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(_)));
        if !looked {
            // Full: it is awake already.
            let _ = wake.try_send(());
        }
    })
}
