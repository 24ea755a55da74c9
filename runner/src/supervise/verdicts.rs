//! What probes have said of libraries, in `state.dir/verdicts`: a file each, named by the library's hash. Holds digests of
//! configurations, never a configuration.
//!
//! A verdict counts only under what it was made under: this build of the runner, the same settings, the same live confs.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;
use std::{fs, io};

use plugin_api::{ABI_MAJOR, ABI_MINOR};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256 as Hash};

use super::prober::{Confs, Verdict};
use super::state::StateDir;
use super::workshop::{Refusal, Sha256};
use crate::config::Config;
use crate::protocol::message::PrepareConf;

/// The folder in `state.dir`.
const NAME: &str = "verdicts";
/// Verdicts kept: the newest.
const KEPT: usize = 4_096;
/// Written before old ones are looked for again.
const WRITTEN: u64 = 64;
/// Bytes of a verdict at most.
const LONGEST: u64 = 1 << 20;

/// The kept verdicts; without a folder there are none.
pub(super) struct Verdicts {
    folder: Option<StateDir>,
    written: AtomicU64,
}

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Names of the plugins in the library, as far as the probe came to know them: their confs count.
    plugins: Vec<String>,
    /// Digest of what the verdict was made under.
    under: Sha256,
    verdict: Said,
}

#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Passed,
    Refused(Refusal),
}

impl Verdicts {
    /// Opens the folder, and removes what is old.
    pub(super) fn open(state: Option<&StateDir>) -> Self {
        let folder = state.and_then(|state| {
            let opened = state.folder(NAME);
            opened
                .inspect_err(|error| tracing::warn!("verdicts of probes are not kept: {error}"))
                .ok()
        });
        if let Some(folder) = &folder {
            remove_old(folder);
        }
        Self {
            folder,
            written: AtomicU64::new(0),
        }
    }

    /// What was said of a library, if it still holds.
    pub(super) fn recall(&self, sha256: Sha256, config: &Config, confs: &Confs) -> Option<Verdict> {
        let bytes = self
            .folder
            .as_ref()?
            .read(&sha256.to_string(), LONGEST)
            .ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        if kept.under != under(config, &kept.plugins, confs) {
            return None;
        }
        Some(match kept.verdict {
            Said::Passed => Verdict::Passed(Vec::new()),
            Said::Refused(refusal) => Verdict::Refused(refusal),
        })
    }

    /// Keeps a verdict. One that cannot be written is made again.
    pub(super) fn keep(
        &self,
        sha256: Sha256,
        plugins: Vec<String>,
        config: &Config,
        confs: &Confs,
        verdict: &Verdict,
    ) {
        let verdict = match verdict {
            Verdict::Passed(_) => Said::Passed,
            Verdict::Refused(refusal) => Said::Refused(refusal.clone()),
            Verdict::Unknown(_) => return,
        };
        let Some(folder) = &self.folder else { return };
        let under = under(config, &plugins, confs);
        let kept = Kept {
            plugins,
            under,
            verdict,
        };
        let written = serde_json::to_vec(&kept)
            .map_err(io::Error::from)
            .and_then(|bytes| folder.write(&sha256.to_string(), &bytes));
        if let Err(cause) = written {
            tracing::debug!(cause = %cause, "a verdict is not kept");
        }
        if self.written.fetch_add(1, Ordering::Relaxed) % WRITTEN == WRITTEN - 1 {
            remove_old(folder);
        }
    }
}

/// The confs that name one of these plugins.
pub(super) fn naming<'c>(confs: &'c Confs, plugins: &[String]) -> Vec<&'c Arc<[u8]>> {
    let names = |payload: &&Arc<[u8]>| {
        PrepareConf::parse(payload).is_ok_and(|conf| {
            let mut entries = conf.conf.iter();
            entries.any(|entry| plugins.iter().any(|name| name.as_bytes() == entry.name))
        })
    };
    confs.iter().filter(names).collect()
}

fn under(config: &Config, plugins: &[String], confs: &Confs) -> Sha256 {
    let settings = (
        build(),
        (ABI_MAJOR, ABI_MINOR),
        &config.plugins.settings,
        &config.plugins.enabled,
        &config.plugins.disabled,
        (&config.worker.user, config.worker.memory_limit),
    );
    let mut hash = Hash::new();
    // Maps of the configuration are sorted; what cannot be text is equal to nothing but itself.
    hash.update(serde_json::to_vec(&settings).unwrap_or_default());
    let confs: BTreeSet<[u8; 32]> = naming(confs, plugins)
        .into_iter()
        .map(|payload| Hash::digest(payload).into())
        .collect();
    confs.iter().for_each(|conf| hash.update(conf));
    Sha256(hash.finalize().into())
}

/// What tells this build of the runner from others.
fn build() -> (&'static str, &'static str, Option<(u64, i64, i64)>) {
    let ours = fs::metadata("/proc/self/exe").ok();
    let ours = ours.map(|file| (file.size(), file.mtime(), file.mtime_nsec()));
    (env!("CARGO_PKG_VERSION"), env!("BUILD_RUSTC"), ours)
}

fn remove_old(folder: &StateDir) {
    let Ok(entries) = fs::read_dir(folder.path()) else {
        return;
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| {
            let written = entry.metadata().and_then(|file| file.modified());
            (written.unwrap_or(SystemTime::UNIX_EPOCH), entry.path())
        })
        .collect();
    files.sort();
    let old = files.len().saturating_sub(KEPT);
    for (_, file) in &files[..old] {
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: Sha256 = Sha256([7; 32]);

    fn refused() -> Verdict {
        Verdict::Refused(Refusal {
            cause: "it crashed".to_owned(),
            hint: None,
        })
    }

    fn conf(plugin: &str, value: &str) -> Arc<[u8]> {
        PrepareConf::write("route#1", plugin, value).into()
    }

    #[test]
    fn a_verdict_outlives_the_process_and_ends_with_what_it_was_made_under() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(&place.path().join("state")).unwrap();
        let mut config = Config::default();
        let confs = vec![conf("limit", "1")];
        let keep = |verdict: &Verdict| {
            let plugins = vec!["limit".to_owned()];
            Verdicts::open(Some(&state)).keep(
                LIBRARY,
                plugins,
                &Config::default(),
                &confs,
                verdict,
            );
        };
        let recall = |config: &Config, confs: &Confs| {
            Verdicts::open(Some(&state)).recall(LIBRARY, config, confs)
        };
        assert_eq!(recall(&config, &confs), None);
        keep(&refused());
        assert_eq!(recall(&config, &confs), Some(refused()));
        let more = vec![conf("other", "1"), conf("limit", "1")];
        assert_eq!(recall(&config, &more), Some(refused()), "not its conf");
        assert_eq!(recall(&config, &vec![conf("limit", "2")]), None);
        keep(&Verdict::Passed(Vec::new()));
        assert_eq!(recall(&config, &confs), Some(Verdict::Passed(Vec::new())));
        config.plugins.disabled.push("x".to_owned());
        assert_eq!(recall(&config, &confs), None);
    }

    #[test]
    fn old_verdicts_go_while_new_ones_come() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(&place.path().join("state")).unwrap();
        let verdicts = Verdicts::open(Some(&state));
        for number in 0..400u16 {
            let mut library = Sha256([0; 32]);
            library.0[..2].copy_from_slice(&number.to_le_bytes());
            let confs = Vec::new();
            verdicts.keep(library, Vec::new(), &Config::default(), &confs, &refused());
        }
        let files = fs::read_dir(place.path().join("state").join(NAME)).unwrap();
        assert!(files.count() <= KEPT + WRITTEN as usize);
    }

    #[test]
    fn what_is_not_known_is_not_kept() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(&place.path().join("state")).unwrap();
        let verdicts = Verdicts::open(Some(&state));
        let Verdict::Refused(refusal) = refused() else {
            unreachable!()
        };
        let (config, confs) = (Config::default(), Vec::new());
        verdicts.keep(
            LIBRARY,
            Vec::new(),
            &config,
            &confs,
            &Verdict::Unknown(refusal),
        );
        assert_eq!(verdicts.recall(LIBRARY, &config, &confs), None);
    }
}
