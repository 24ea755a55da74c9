//! Scans the plugins folder when something stirs in it, and every 2 s anyway. Decides nothing.
//!
//! What inotify says is a wake-up only: it names neither a ConfigMap's files nor a link's target.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::fingerprint::Trust;
use super::folder::{FolderError, Scan, scan};

/// How long nothing may stir before the folder is scanned.
const QUIET: Duration = Duration::from_millis(120);
/// A folder in which something stirs all the time is scanned this often.
const PATIENCE: Duration = Duration::from_secs(1);
/// What inotify misses is seen after this time.
const RESCAN: Duration = Duration::from_secs(2);

/// The thread that scans. It ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    stir: Sender<Wake>,
}

/// Why to scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// Something stirs: when it is quiet again.
    Stirred,
    /// Somebody waits for it.
    Asked,
}

impl Watch {
    /// Scans at once and then again and again; `report` runs on the scanning thread and says whether to go on.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        folder: PathBuf,
        trust: Trust,
        report: impl FnMut(Result<Scan, FolderError>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stir, stirred) = channel();
        let scanning = Scanning {
            folder,
            trust,
            stirred,
            stir: stir.clone(),
            watched: None,
        };
        let thread = thread::Builder::new().name("folder".to_owned());
        thread.spawn(move || scanning.run(report))?;
        Ok(Self { stir })
    }

    /// Scans when nothing stirs any more.
    pub fn stir(&self) {
        // The thread is gone only when the supervisor is.
        let _ = self.stir.send(Wake::Stirred);
    }

    /// Scans at once: somebody who has finished what he did to the folder waits for it.
    pub fn scan_now(&self) {
        let _ = self.stir.send(Wake::Asked);
    }
}

struct Scanning {
    folder: PathBuf,
    trust: Trust,
    stirred: Receiver<Wake>,
    stir: Sender<Wake>,
    /// The folder that inotify watches, by device and inode.
    watched: Option<((u64, u64), RecommendedWatcher)>,
}

impl Scanning {
    fn run(mut self, mut report: impl FnMut(Result<Scan, FolderError>) -> bool) {
        loop {
            let scan = self.scan();
            if !report(scan) {
                return;
            }
            self.wait();
        }
    }

    fn scan(&mut self) -> Result<Scan, FolderError> {
        let first = scan(&self.folder, self.trust)?;
        if self
            .watched
            .as_ref()
            .is_some_and(|(id, _)| *id == first.folder)
        {
            return Ok(first);
        }
        // Another folder lies there now. Without inotify (limits reached) the rescan still sees every change.
        let watcher = watcher(&self.folder, self.stir.clone());
        self.watched = watcher.ok().map(|watcher| (first.folder, watcher));
        // What changed before the watch began would otherwise be seen only 2 s later.
        scan(&self.folder, self.trust)
    }

    /// Until something stirred and then nothing more, until somebody asks, or until it is time for a rescan.
    fn wait(&self) {
        if self.stirred.recv_timeout(RESCAN) != Ok(Wake::Stirred) {
            return;
        }
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            match self.stirred.recv_timeout(QUIET) {
                Ok(Wake::Stirred) => {}
                Ok(Wake::Asked) => return,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn watcher(folder: &Path, stir: Sender<Wake>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes Access events: answering them would never end.
        if !matches!(event, Ok(ref event) if matches!(event.kind, EventKind::Access(_))) {
            let _ = stir.send(Wake::Stirred);
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn watched(folder: &Path) -> (Watch, Receiver<Result<Scan, FolderError>>) {
        let (tell, told) = channel();
        let trust = Trust {
            root: false,
            allow_writable: true,
        };
        let report = move |scan| tell.send(scan).is_ok();
        (
            Watch::start(folder.to_owned(), trust, report).unwrap(),
            told,
        )
    }

    #[track_caller]
    fn until(told: &Receiver<Result<Scan, FolderError>>, wanted: impl Fn(&Scan) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(scan) = told.recv_timeout(left).unwrap()
                && wanted(&scan)
            {
                return;
            }
        }
    }

    #[test]
    fn a_new_file_is_seen_soon() {
        let folder = tempfile::tempdir().unwrap();
        let (_watch, told) = watched(folder.path());
        until(&told, |scan| scan.files.is_empty());
        let started = Instant::now();
        fs::write(folder.path().join("a.so"), "x").unwrap();
        until(&told, |scan| scan.files.len() == 1);
        assert!(started.elapsed() < RESCAN, "only the rescan saw it");
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("plugins");
        fs::create_dir(&folder).unwrap();
        let (_watch, told) = watched(&folder);
        until(&told, |scan| scan.files.is_empty());
        fs::rename(&folder, parent.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.so"), "x").unwrap();
        until(&told, |scan| scan.files.len() == 1);
        let started = Instant::now();
        fs::write(folder.join("b.so"), "x").unwrap();
        until(&told, |scan| scan.files.len() == 2);
        assert!(started.elapsed() < RESCAN, "only the rescan saw it");
    }

    #[test]
    fn who_asks_does_not_wait_for_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let (watch, told) = watched(folder.path());
        until(&told, |scan| scan.files.is_empty());
        fs::write(folder.path().join("a.so"), "x").unwrap();
        let started = Instant::now();
        watch.scan_now();
        until(&told, |scan| scan.files.len() == 1);
        assert!(started.elapsed() < QUIET, "{:?}", started.elapsed());
    }

    #[test]
    fn the_thread_does_not_wake_itself_up() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.so"), "x").unwrap();
        let (_watch, told) = watched(folder.path());
        until(&told, |scan| scan.files.len() == 1);
        let quiet = told.recv_timeout(RESCAN / 2);
        assert!(quiet.is_err(), "scanned again without a reason");
    }
}
