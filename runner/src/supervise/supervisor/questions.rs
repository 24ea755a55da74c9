//! Answers what people ask on the admin socket. Never waits: an answer that needs the worker or the disk comes later.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use super::by_hand::Decision;
use super::{Supervisor, Timer};
use crate::config::Level;
use crate::supervise::admin::message::{Answer, Request};
use crate::supervise::admin::{Admin, Reply};
use crate::supervise::control::message::ToWorker;
use crate::supervise::workshop::Report;
use crate::telemetry;

/// How long the worker may take to say how it is.
const REPORT: Duration = Duration::from_secs(1);
/// How long a reload may take before it is answered with what has happened up to then.
const RELOAD: Duration = Duration::from_secs(60);

/// Questions that are not answered yet.
#[derive(Debug, Default)]
pub(in crate::supervise) struct Questions {
    last: u64,
    statuses: HashMap<u64, Reply>,
    reloads: Vec<Reloading>,
}

#[derive(Debug)]
pub(super) struct Reloading {
    number: u64,
    reply: Reply,
    /// Scans to wait for: the first may have begun before the question.
    scans: u8,
    lines: Vec<String>,
    pub(super) faults: Vec<String>,
}

impl Questions {
    /// Something was done that whoever waits for a reload wants to know.
    pub(super) fn note(&mut self, line: &str) {
        for reload in &mut self.reloads {
            reload.lines.push(line.to_owned());
        }
    }

    /// Something went wrong that whoever waits for a reload wants to know.
    pub(super) fn fault(&mut self, line: &str) {
        for reload in &mut self.reloads {
            reload.faults.push(line.to_owned());
        }
    }

    /// The folder was looked at; whether it has to be once more.
    pub(super) fn scanned(&mut self) -> bool {
        for reload in &mut self.reloads {
            reload.scans = reload.scans.saturating_sub(1);
        }
        self.reloads.iter().any(|reload| reload.scans > 0)
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Reloading {
    pub(super) fn answer(self) {
        let Self {
            mut lines, faults, ..
        } = self;
        let answer = match faults.is_empty() {
            true if lines.is_empty() => {
                lines.push("nothing has changed".to_owned());
                Answer::Done { lines }
            }
            true => Answer::Done { lines },
            false => {
                lines.extend(faults);
                Answer::Failed { lines }
            }
        };
        let _ = self.reply.send(answer);
    }
}

impl Supervisor {
    pub(super) fn question(&mut self, request: Request, gift: Vec<OwnedFd>, reply: Reply) {
        // Whoever does not wait for the answer any more does not need it.
        match request {
            Request::Status => self.ask_for_status(reply, false),
            Request::Plugins => self.ask_for_status(reply, true),
            Request::Reload { plugin } => self.ask_for_reload(plugin.as_deref(), reply),
            Request::Release { plugin } => self.ask_for_release(&plugin, reply),
            Request::TakeConnections => self.take_connections(gift, &reply),
            Request::Recycle => self.ask_for_recycle(reply),
            Request::RollBack { plugin } => {
                self.ask_to_hold(&plugin, Decision::RollBack, reply);
            }
            Request::Quarantine { plugin } => {
                self.ask_to_hold(&plugin, Decision::Quarantine, reply);
            }
            Request::LogLevel { level } => {
                self.take_level(level);
                let lines = vec![format!("log level {} from now on", level.name())];
                let _ = reply.send(Answer::Done { lines });
            }
        }
    }

    /// A worker that does not serve yet keeps them until it does, as a backlog does.
    fn take_connections(&self, gift: Vec<OwnedFd>, reply: &Reply) {
        let worker = self.worker.as_ref().filter(|_| self.stopping.is_none());
        let lines = Vec::new();
        let answer = match worker.filter(|_| gift.len() == 1) {
            Some(worker) => {
                worker.tell_with(ToWorker::Adopt, Vec::new(), gift);
                Answer::Done { lines }
            }
            None => Answer::Failed { lines },
        };
        let _ = reply.send(answer);
    }

    /// Says once that the admin socket was removed: with it went, as a rule, all of `state.dir`.
    pub(super) fn miss_admin(&mut self) {
        if let Some(path) = self.admin.as_ref().and_then(Admin::gone) {
            tracing::warn!(
                hint = "restart the runner when it suits; until then what serves goes on, and nothing new outlives it",
                "{} is gone: nobody can ask how it goes, and state.dir was removed perhaps",
                path.display()
            );
            self.admin = None;
        }
    }

    pub(super) fn take_level(&mut self, level: Level) {
        self.config.logging.level = level;
        telemetry::set_level(level);
        self.tell_all(&ToWorker::LogLevel(level));
        tracing::info!("log level {} from now on", level.name());
    }

    fn ask_for_status(&mut self, reply: Reply, described: bool) {
        let sequence = self.questions.next();
        self.questions.statuses.insert(sequence, reply);
        if !self.worker.as_ref().is_some_and(|worker| worker.ready) {
            return self.answer_status(sequence, None);
        }
        self.tell(ToWorker::Report {
            sequence,
            described,
        });
        self.later(REPORT, Timer::ReportIsLate(sequence));
    }

    pub(super) fn answer_status(&mut self, number: u64, report: Option<Report>) {
        if let Some(reply) = self.questions.statuses.remove(&number) {
            let status = Box::new(self.status(report));
            let _ = reply.send(Answer::Status(status));
        }
    }

    /// The worker is gone, and with it what it would have said.
    pub(super) fn answer_all_statuses(&mut self) {
        let numbers: Vec<_> = self.questions.statuses.keys().copied().collect();
        for number in numbers {
            self.answer_status(number, None);
        }
    }

    fn ask_for_reload(&mut self, plugin: Option<&str>, reply: Reply) {
        let mut reloading = self.reloading(reply, 2);
        let reread = self.reread();
        reloading.lines.extend(reread.lines);
        reloading.faults.extend(reread.faults);
        if let Some(plugin) = plugin {
            let files = self.files_of(plugin);
            if files.is_empty() {
                reloading.faults.push(self.unknown(plugin));
                return reloading.answer();
            }
            self.load_again(files);
        }
        self.look_for(reloading);
    }

    /// A question that is answered after this many looks at the folder and when nothing is left to do.
    pub(super) fn reloading(&mut self, reply: Reply, scans: u8) -> Reloading {
        Reloading {
            number: self.questions.next(),
            reply,
            scans,
            lines: Vec::new(),
            faults: Vec::new(),
        }
    }

    pub(super) fn load_again(&mut self, files: Vec<PathBuf>) {
        for file in files {
            self.libraries.reload.again(&file);
            self.libraries.probe_again.insert(file);
        }
    }

    /// Looks at the folder; the answer comes when nothing is left to do.
    pub(super) fn look_for(&mut self, mut reloading: Reloading) {
        if let Err(fault) = self.rescan() {
            reloading.faults.push(fault);
            return reloading.answer();
        }
        self.wait_for(reloading);
    }

    /// The answer comes when nothing is left to do.
    pub(super) fn wait_for(&mut self, reloading: Reloading) {
        self.later(RELOAD, Timer::ReloadIsLate(reloading.number));
        self.questions.reloads.push(reloading);
    }

    /// The files that offer a plugin, or have this name.
    pub(super) fn files_of(&self, plugin: &str) -> Vec<PathBuf> {
        let offers = self.libraries.offers.iter().filter(|(_, offer)| {
            let mut plugins = offer.plugins.iter();
            plugins.any(|offered| offered.name == plugin)
        });
        let mut files: Vec<_> = offers.map(|(file, _)| file.clone()).collect();
        if files.is_empty() {
            let all = self.libraries.reload.files().map(|(file, _)| file);
            let named = all.filter(|file| file.file_name().is_some_and(|name| name == plugin));
            files.extend(named.map(PathBuf::from));
        }
        files
    }

    /// Answers the reloads for which nothing is left to do.
    pub(super) fn answer_reloads(&mut self) {
        let idle = self.libraries.reload.is_idle() && self.recycles.is_even();
        if self.questions.reloads.is_empty() || !idle {
            return;
        }
        let reloads = std::mem::take(&mut self.questions.reloads);
        let (done, waiting) = reloads.into_iter().partition(|reload| reload.scans == 0);
        self.questions.reloads = waiting;
        let done: Vec<Reloading> = done;
        done.into_iter().for_each(Reloading::answer);
    }

    pub(super) fn reload_is_late(&mut self, number: u64) {
        let reloads = &mut self.questions.reloads;
        if let Some(at) = reloads.iter().position(|reload| reload.number == number) {
            let mut reload = reloads.remove(at);
            let fault = "something is still under way: see `plugin-runner status`";
            reload.faults.push(fault.to_owned());
            reload.answer();
        }
    }
}
