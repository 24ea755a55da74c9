//! The routes of the local gateway: which hooks a request runs, and where it goes then. Read from a file in
//! APISIX's own standalone form; which route matches; when the file is read again.

mod parse;
mod yaml;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

/// A file that cannot be used: every fault, one a line, each with its place.
#[derive(Debug, Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct RoutesError(pub(super) Vec<String>);

/// All routes of a file.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Arc<Route>>,
    /// Keys that APISIX knows and the local gateway does not imitate, each with its place.
    pub(super) warnings: Vec<String>,
    pub(super) stamp: Stamp,
}

/// What tells one state of the file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: SystemTime,
    length: u64,
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) service: Option<String>,
    uris: Vec<String>,
    /// Empty: any.
    methods: Vec<String>,
    priority: i64,
    pub(super) pre_req: Option<Hook>,
    pub(super) post_req: Option<Hook>,
    pub(super) post_resp: Option<Hook>,
    /// `host:port` with its weight; empty: the echo upstream.
    nodes: Vec<(String, u32)>,
    picks: AtomicUsize,
}

/// One `ext-plugin-*` on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hook {
    /// `route#<id>#<plugin>#<version>`, the version being the file's time in seconds.
    pub(super) key: String,
    /// Plugin names with their configuration; `None` if the route gives none.
    pub(super) conf: Option<Vec<(String, String)>>,
    pub(super) allow_degradation: bool,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified()?,
            length: metadata.len(),
        })
    }

    fn version(self) -> u64 {
        self.modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    }
}

/// See [`super::check_routes`].
pub(super) fn check(text: &str) -> Result<usize, Vec<String>> {
    let parsed = parse::parse(text, 1);
    if parsed.faults.is_empty() {
        return Ok(parsed.routes.len());
    }
    let place = |(line, message): (usize, String)| format!("{line}: {message}");
    Err(parsed.faults.into_iter().map(place).collect())
}

impl Routes {
    /// Reads a file. All faults at once.
    pub(super) fn read(path: &Path) -> Result<Self, RoutesError> {
        let failed =
            |error: std::io::Error| RoutesError(vec![format!("{}: {error}", path.display())]);
        // The stamp first: a change while we read is seen at the next look.
        let stamp = Stamp::of(path).map_err(failed)?;
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let place =
            |(line, message): (usize, String)| format!("{}:{line}: {message}", path.display());
        let parsed = parse::parse(&text, stamp.version());
        if !parsed.faults.is_empty() {
            return Err(RoutesError(parsed.faults.into_iter().map(place).collect()));
        }
        let routes = parsed.routes.into_iter().map(Arc::new).collect();
        Ok(Self {
            routes,
            warnings: parsed.warnings.into_iter().map(place).collect(),
            stamp,
        })
    }

    /// The route for a decoded path: the higher priority, then an exact path before a prefix, the longer prefix
    /// before the shorter, the earlier before the later.
    pub(super) fn find(&self, method: &str, path: &[u8]) -> Option<Arc<Route>> {
        let fitting = self
            .routes
            .iter()
            .filter_map(|route| Some((route.fit(method, path)?, route)));
        let best = fitting.rev_max_by_key(|(fit, route)| (route.priority, *fit));
        best.map(|(_, route)| route.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }
}

/// `max_by_key` that keeps the first of equals.
trait RevMax: Iterator + Sized {
    fn rev_max_by_key<K: Ord>(self, key: impl Fn(&Self::Item) -> K) -> Option<Self::Item> {
        self.reduce(|best, next| if key(&next) > key(&best) { next } else { best })
    }
}

impl<I: Iterator> RevMax for I {}

impl Route {
    /// How well the route fits: (exact, length of the pattern). `None`: not at all.
    fn fit(&self, method: &str, path: &[u8]) -> Option<(bool, usize)> {
        if !self.methods.is_empty() && !self.methods.iter().any(|allowed| allowed == method) {
            return None;
        }
        let fits = self
            .uris
            .iter()
            .filter_map(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => path
                    .starts_with(prefix.as_bytes())
                    .then_some((false, prefix.len())),
                None => (path == pattern.as_bytes()).then_some((true, pattern.len())),
            });
        fits.max()
    }

    /// The node for the next request, in turn by weight; `None`: no nodes.
    pub(super) fn node(&self) -> Option<&str> {
        let total: usize = self.nodes.iter().map(|(_, weight)| *weight as usize).sum();
        if total == 0 {
            return None;
        }
        let mut turn = self.picks.fetch_add(1, Ordering::Relaxed) % total;
        for (node, weight) in &self.nodes {
            match turn.checked_sub(*weight as usize) {
                Some(rest) => turn = rest,
                None => return Some(node),
            }
        }
        None
    }
}
