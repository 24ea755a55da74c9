//! The file with the bindings: read at the start and whenever it changes. A file with faults changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::stat;
use tokio::sync::mpsc::UnboundedSender;

use super::reread::Reread;
use super::{Event, Supervisor};
use crate::config::{self, Binding, Config};
use crate::protocol::message::PrepareConf;
use crate::request::binder;
use crate::supervise::admin::message;
use crate::supervise::control::message::ToWorker;
use crate::supervise::fingerprint::Fingerprint;
use crate::supervise::spawn::Worker;

/// How often the file is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The bindings as they were read last.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Bindings {
    file: Option<PathBuf>,
    read: Vec<Binding>,
    /// Why the file as it is now is not taken up.
    fault: Option<String>,
}

impl Bindings {
    /// Reads the file, and watches it.
    ///
    /// # Errors
    /// The file has faults: without bindings, what they keep out would be let in.
    pub(in crate::supervise) fn start(
        config: &Config,
        events: &UnboundedSender<Event>,
    ) -> anyhow::Result<Self> {
        let Some(file) = config.bindings_file() else {
            return Ok(Self::default());
        };
        let seen = fingerprint(&file);
        let read = config.read_bindings()?;
        if !read.is_empty() {
            tracing::info!("{} bindings from {}", read.len(), file.display());
        }
        if config.plugins.hot_reload {
            watch(file.clone(), seen, events.clone())?;
        }
        Ok(Self {
            file: Some(file),
            read,
            fault: None,
        })
    }

    /// What each stands for, as the gateway would have sent it.
    pub(super) fn payloads(&self) -> impl Iterator<Item = Arc<[u8]>> {
        let confs = self.read.iter().map(binder::conf);
        confs.flat_map(|conf| {
            let key = conf.route_key;
            conf.plugins.into_iter().map(move |plugin| {
                let value = String::from_utf8_lossy(&plugin.value);
                PrepareConf::write(&key, &plugin.name, &value).into()
            })
        })
    }

    /// For people who ask. What serves is known to the worker.
    pub(super) fn status(&self) -> message::Bindings {
        message::Bindings {
            file: self.file.clone().filter(|_| !self.read.is_empty()),
            read: self.read.len(),
            serving: 0,
            fault: self.fault.clone(),
        }
    }
}

impl Supervisor {
    /// The file has changed.
    pub(super) fn log_reread_bindings(&mut self) {
        let mut reread = Reread::default();
        self.reread_bindings(&mut reread);
        for line in reread.lines {
            tracing::info!("{line}");
        }
        for fault in reread.faults {
            tracing::error!("{fault}");
        }
    }

    /// Takes up what the file says now, unless it has faults. One that is gone changes nothing.
    pub(super) fn reread_bindings(&mut self, reread: &mut Reread) {
        let Some(file) = self.bindings.file.as_ref().filter(|file| file.exists()) else {
            return;
        };
        match config::bindings(file) {
            Ok(read) if read == self.bindings.read => self.bindings.fault = None,
            Ok(read) => {
                self.bindings.fault = None;
                let line = format!("{} bindings from {}", read.len(), file.display());
                reread.lines.push(line);
                self.bindings.read = read;
                self.tell_bindings();
            }
            Err(faults) => {
                let fault = format!("the bindings stay as they were: {faults}");
                self.bindings.fault = Some(faults.to_string());
                reread.faults.push(fault);
            }
        }
    }

    fn tell_bindings(&self) {
        self.workers()
            .for_each(|worker| self.tell_bindings_to(worker));
    }

    /// A new worker has none.
    pub(super) fn tell_bindings_to(&self, worker: &Worker) {
        if self.bindings.file.is_none() {
            return;
        }
        match serde_json::to_vec(&self.bindings.read) {
            Ok(bindings) => worker.tell_with(ToWorker::Bindings, bindings, Vec::new()),
            Err(error) => tracing::error!(%error, "the bindings cannot be told to the worker"),
        }
    }
}

fn fingerprint(file: &Path) -> Option<Fingerprint> {
    stat(file).ok().map(|stat| Fingerprint::of(&stat))
}

fn watch(
    file: PathBuf,
    mut seen: Option<Fingerprint>,
    events: UnboundedSender<Event>,
) -> anyhow::Result<()> {
    let looking = move || {
        loop {
            thread::park_timeout(TICK);
            let now = fingerprint(&file);
            // A file that is gone may come back in a moment, as editors do.
            if now.is_some() && now != seen {
                seen = now;
                if events.send(Event::BindingsChanged).is_err() {
                    return;
                }
            }
        }
    };
    thread::Builder::new()
        .name("bindings".to_owned())
        .spawn(looking)?;
    Ok(())
}
