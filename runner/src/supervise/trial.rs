//! Tries one library for a person at the command line: the copy, the probe and the verdict that `start` would have, once,
//! without a supervisor. Nothing of the library runs in this process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::control::message::Start;
use super::descriptors;
use super::fingerprint::Trust;
use super::output;
use super::privileges;
use super::prober::{self, Job};
use super::staging::{Outcome, Place, Staging};
use super::workshop::Refusal;
use crate::config::Config;
use crate::telemetry::{Lines, Sink, Style};

/// What came of it.
#[derive(Debug)]
pub enum Tried {
    /// It would be loaded. Of the confs these were refused: `route key: reason`.
    Passed(Vec<String>),
    /// It said no, or does not fit.
    Refused(Refusal),
    /// It ended its process.
    Ended(String),
    /// It did not come back.
    Late(String),
    /// It could not be tried.
    Impossible(String),
}

/// What a throw-away process has printed comes out within this time after its end.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Tries a library with these PREPARE_CONF payloads. Call it on the main thread: the probe ends with the thread. Whose
/// file it is does not matter here.
pub fn probe(config: &Config, file: &Path, confs: Vec<Vec<u8>>, lines: &Lines) -> Tried {
    let staging = Staging {
        place: Place::Memory,
        trust: anybody(),
        allow: None,
        known: crate::supervise::last_good::Known::default(),
        seen: std::sync::Mutex::default(),
    };
    let (library, memory) = match staging.stage(file, 1) {
        Outcome::Staged { library, copy, .. } => (library, Some(copy)),
        Outcome::Refused(_, refusal) => return Tried::Refused(refusal),
        Outcome::Unsettled => {
            return Tried::Impossible("it is being written, or gone again".to_owned());
        }
    };
    let start = match start(config) {
        Ok(start) => start,
        Err(error) => return Tried::Impossible(format!("{error:#}")),
    };
    let job = Job {
        library,
        memory,
        confs: confs.into_iter().map(Arc::from).collect(),
        start,
        again: true,
    };
    let tried = prober::once(job, lines);
    output::wait_for_last_words(LAST_WORDS);
    tried
}

/// Whoever may write a file that is looked at by name.
pub(super) fn anybody() -> Trust {
    Trust {
        root: false,
        allow_writable: true,
    }
}

/// What a child of this process is told first.
///
/// # Errors
/// `worker.user` cannot be had, or the system refuses.
pub(super) fn start(config: &Config) -> anyhow::Result<Start> {
    descriptors::close_on_exec().context("inherited descriptors cannot be kept to ourselves")?;
    Ok(Start {
        identity: privileges::identity(config.worker.user.as_deref())?,
        config: config.clone(),
        supervisor: std::process::id(),
        style: Style::of(config.logging.format, &Sink::Stderr),
    })
}
