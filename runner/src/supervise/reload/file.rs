//! One file of the plugins folder, as `reload` sees it. Pure.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Step;
use crate::supervise::fingerprint::Fingerprint;
use crate::supervise::workshop::Library;

/// A missing file counts as removed after this time, so that `rm` and `cp` after it fail no call.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// A file whose probe did not come back is probed again after this time, then twice as long, and so on.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// The longest such time.
pub(super) const RETRY_LATEST: Duration = Duration::from_secs(300);
/// A library that served before is given up when this many workers in a row ended while they loaded it.
pub(super) const DEATHS: u8 = 3;

#[derive(Debug, Default)]
pub(super) struct File {
    /// Its state at the last look; `None` while it is missing.
    pub(super) seen: Option<Fingerprint>,
    pub(super) missing_since: Option<Instant>,
    /// The state that was tried last, with whatever result.
    pub(super) tried: Option<Fingerprint>,
    pub(super) staging: bool,
    pub(super) probing: Option<Library>,
    /// Probes in a row that did not come back.
    pub(super) hangs: u32,
    /// When the next one may start.
    pub(super) retry: Option<Instant>,
    /// To be loaded even if its content is what serves.
    pub(super) again: bool,
    pub(super) loading: Option<Loading>,
    /// A last good copy is on its way to take the place of what serves, or of nothing.
    pub(super) recalling: bool,
    /// There is no last good copy that could be tried.
    pub(super) no_good: bool,
    pub(super) serving: Option<Library>,
    /// What served before it, and takes over if it has to go.
    pub(super) previous: Option<Library>,
    pub(super) deaths: u8,
}

#[derive(Debug)]
pub(super) struct Loading {
    pub(super) library: Library,
    /// Not loaded in an earlier worker.
    pub(super) fresh: bool,
}

/// How a file is, for people who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState<'a> {
    /// What is being done with it.
    pub under_way: Option<&'static str>,
    /// It is there.
    pub present: bool,
    /// What serves.
    pub serving: Option<&'a Library>,
}

impl File {
    pub(super) fn state(&self) -> FileState<'_> {
        let under_way = match self {
            Self {
                recalling: true, ..
            } => Some("loading"),
            Self { staging: true, .. } => Some("copying"),
            Self {
                probing: Some(_), ..
            } => Some("probing"),
            Self {
                loading: Some(_), ..
            } => Some("loading"),
            Self { retry: Some(_), .. } => Some("waiting"),
            _ => None,
        };
        FileState {
            under_way,
            present: self.seen.is_some(),
            serving: self.serving.as_ref(),
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.seen.is_some() && self.seen != self.tried
    }

    pub(super) fn is_busy(&self) -> bool {
        self.staging || self.recalling || self.probing.is_some() || self.loading.is_some()
    }

    /// Nothing serves although the file is there, and what has served earlier may.
    pub(super) fn lacks_good(&self) -> bool {
        self.seen.is_some() && self.serving.is_none() && !self.no_good
    }

    /// A last good copy was tried, with whatever result.
    pub(super) fn end_recall(&mut self) -> bool {
        std::mem::take(&mut self.recalling)
    }

    /// Calls wait neither for the successor of what serves nor for what has hung already, but for its last good copy.
    pub(super) fn is_settled(&self) -> bool {
        let first = self.serving.is_none() && (self.hangs == 0 || self.recalling);
        self.loading.is_none() && !(first && (self.is_busy() || self.is_changed()))
    }

    /// Its probe did not come back.
    pub(super) fn hung(&mut self, now: Instant) {
        let wait = RETRY.saturating_mul(1 << self.hangs.min(10));
        self.hangs += 1;
        self.retry = Some(now + wait.min(RETRY_LATEST));
    }

    pub(super) fn forget_hangs(&mut self) {
        self.hangs = 0;
        self.retry = None;
    }

    /// Its content has changed: what was held against it is void.
    pub(super) fn start_over(&mut self) {
        self.forget_hangs();
        self.deaths = 0;
        self.no_good = false;
    }

    pub(super) fn retry_if_due(&mut self, now: Instant) {
        if !self.is_busy() && self.retry.is_some_and(|due| due <= now) {
            self.retry = None;
            self.tried = None;
        }
    }

    /// The opened file had this state, which is newer than the last scan's.
    pub(super) fn looked_at(&mut self, fingerprint: Fingerprint) {
        self.seen = self.seen.map(|_| fingerprint);
        self.tried = Some(fingerprint);
    }

    /// The file is missing: whether to keep waiting for it.
    pub(super) fn keep_without(
        &mut self,
        path: &Path,
        now: Instant,
        steps: &mut Vec<Step>,
    ) -> bool {
        self.seen = None;
        let since = *self.missing_since.get_or_insert(now);
        if self.is_busy() || now.duration_since(since) < GRACE {
            return true;
        }
        if let Some(library) = self.serving.take() {
            steps.push(Step::Unload(path.to_owned()));
            steps.push(Step::Retire(library));
        }
        steps.extend(self.previous.take().map(Step::Retire));
        false
    }

    /// Another build serves from now on; what served before it is kept.
    pub(super) fn succeed(&mut self, library: Library) -> Option<Step> {
        let sha256 = library.sha256;
        let before = self.serving.replace(library)?;
        let gone = match before.sha256 == sha256 {
            true => Some(before),
            false => self.previous.replace(before),
        };
        gone.map(Step::Retire)
    }

    /// What served before takes over in the next worker, if there is something.
    pub(super) fn fall_back(&mut self) -> Option<Step> {
        self.deaths = 0;
        self.no_good = false;
        let gone = std::mem::replace(&mut self.serving, self.previous.take());
        gone.map(Step::Retire)
    }

    /// `blamed`: the generation whose load ended the worker. `suspected`: the one that may have.
    pub(super) fn worker_ended(
        &mut self,
        blamed: Option<u64>,
        suspected: Option<u64>,
    ) -> Vec<Step> {
        // A probe does not need the worker.
        let recalled = self.probing.is_none() && self.end_recall();
        let Some(Loading { library, fresh }) = self.loading.take() else {
            return Vec::new();
        };
        let is = |generation| generation == Some(library.generation);
        self.deaths += u8::from(is(blamed) || is(suspected));
        let given_up = self.deaths >= DEATHS || fresh && is(blamed);
        match (fresh, given_up) {
            (true, true) => vec![Step::Blame(library.clone()), Step::Retire(library)],
            (true, false) => {
                if !recalled {
                    self.tried = None; // staged again for the next worker
                }
                vec![Step::Retire(library)]
            }
            (false, true) => {
                let mut steps = vec![Step::Blame(library)];
                steps.extend(self.fall_back());
                steps
            }
            (false, false) => Vec::new(),
        }
    }
}
