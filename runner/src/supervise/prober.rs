//! The supervisor's side of probes: a few threads, each with one probe at a time. Never runs plugin code, never holds up
//! the main loop.
//!
//! The threads live as long as the process: a probe dies with the thread that started it.

pub(super) mod child;

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc::UnboundedSender;

use self::child::{Child, Trouble};
use super::control::message::{Examination, FromProbe, Start, ToProbe};
use super::supervisor::Event;
use super::trial::Tried;
use super::verdicts::{self, Verdicts};
use super::workshop::{Library, LoadedPlugin, Refusal};
use crate::protocol::message::PrepareConf;
use crate::telemetry::Lines;

/// Probes at once at most, however many cores there are.
const MOST: usize = 8;
/// Confs beyond this time are left out: a library that configures slowly is no reason to keep its old version for long.
const CONFS: Duration = Duration::from_secs(30);

/// Payloads of live confs, by which a library is tried.
pub(super) type Confs = Vec<Arc<[u8]>>;

/// What a probe says of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be loaded. Some confs may have been refused, with these words: calls of those stay where they are.
    Passed(Vec<String>),
    /// It may not.
    Refused(Refusal),
    /// It took too long, or there was no process to be had: another time perhaps.
    Unknown(Refusal),
}

/// Something to probe.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) library: Library,
    /// The copy, if it lives in private memory.
    pub(super) memory: Option<OwnedFd>,
    pub(super) confs: Confs,
    pub(super) start: Start,
    /// Whatever earlier probes said.
    pub(super) again: bool,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct ProbeReport {
    pub(super) generation: u64,
    pub(super) verdict: Verdict,
}

/// The process groups of living probes.
pub(super) type Groups = Arc<Mutex<HashSet<Pid>>>;

/// A handle on the threads.
pub(super) struct Prober {
    jobs: mpsc::Sender<Job>,
    groups: Groups,
}

/// What every thread has.
#[derive(Clone)]
struct Bench {
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    groups: Groups,
    lines: Lines,
    verdicts: Arc<Verdicts>,
    events: UnboundedSender<Event>,
}

impl Prober {
    /// Starts a thread per core.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(
        verdicts: Verdicts,
        lines: Lines,
        events: UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (jobs, wanted) = mpsc::channel();
        let groups = Groups::default();
        let bench = Bench {
            jobs: Arc::new(Mutex::new(wanted)),
            groups: Arc::clone(&groups),
            lines,
            verdicts: Arc::new(verdicts),
            events,
        };
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.min(MOST) {
            let bench = bench.clone();
            thread::Builder::new()
                .name("probe".to_owned())
                .spawn(move || bench.work())?;
        }
        Ok(Self { jobs, groups })
    }

    /// Asks for a verdict; a report follows.
    pub(super) fn examine(&self, job: Job) {
        // The threads end only with us.
        let _ = self.jobs.send(job);
    }

    /// Ends all probes, with all that third-party code started in them.
    pub(super) fn end(&self) {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups.iter() {
            let _ = kill_process_group(*group, Signal::KILL);
        }
    }
}

/// Probes one library on this thread, for a person: nothing is recalled or kept.
pub(super) fn once(job: Job, lines: &Lines) -> Tried {
    // Nobody puts jobs in, and nobody listens.
    let bench = Bench {
        jobs: Arc::new(Mutex::new(mpsc::channel().1)),
        groups: Groups::default(),
        lines: lines.clone(),
        verdicts: Arc::new(Verdicts::open(None)),
        events: tokio::sync::mpsc::unbounded_channel().0,
    };
    let mut examined = Examined::default();
    let trouble = match bench.examine(job, &mut examined) {
        Ok(()) => return Tried::Passed(examined.refusals),
        Err(End::Refused(refusal)) => return Tried::Refused(refusal),
        Err(End::Trouble(trouble)) => trouble,
    };
    let (Verdict::Refused(refusal) | Verdict::Unknown(refusal)) = verdict(&trouble, &examined.step)
    else {
        return Tried::Passed(examined.refusals);
    };
    match trouble {
        Trouble::Ended(_) | Trouble::Killed => Tried::Ended(refusal.cause),
        Trouble::Late(_) => Tried::Late(refusal.cause),
        Trouble::System(_) => Tried::Impossible(refusal.cause),
    }
}

impl Bench {
    fn work(&self) {
        loop {
            // Whoever waits holds the lock; the others wait for it.
            let job = {
                let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.recv()
            };
            let Ok(job) = job else { return };
            let generation = job.library.generation;
            let verdict = self.judge(job);
            let report = ProbeReport {
                generation,
                verdict,
            };
            if self.events.send(Event::Probed(report)).is_err() {
                return;
            }
        }
    }

    fn judge(&self, job: Job) -> Verdict {
        let sha256 = job.library.sha256;
        let config = &job.start.config;
        let known = self.verdicts.recall(sha256, config, &job.confs);
        if let Some(verdict) = known.filter(|_| !job.again) {
            tracing::debug!(%sha256, "known: not probed again");
            return verdict;
        }
        let config = job.start.config.clone();
        let confs = job.confs.clone();
        let mut examined = Examined::default();
        let end = self.examine(job, &mut examined);
        let lasts = examined.lasts(&end);
        let verdict = match end {
            Ok(()) => Verdict::Passed(examined.refusals),
            Err(End::Refused(refusal)) => Verdict::Refused(refusal),
            Err(End::Trouble(trouble)) => self::verdict(&trouble, &examined.step),
        };
        if lasts {
            let plugins = examined.plugins;
            self.verdicts
                .keep(sha256, plugins, &config, &confs, &verdict);
        }
        verdict
    }

    fn examine(&self, job: Job, examined: &mut Examined) -> Result<(), End> {
        let deadline = job.start.config.plugins.probe_deadline;
        let mut child =
            Child::start("probe", &self.groups, &self.lines, deadline).map_err(Trouble::from)?;
        let order = Examination {
            start: job.start,
            library: job.library,
        };
        let memory: Vec<_> = job.memory.iter().map(AsFd::as_fd).collect();
        child.order(&ToProbe::Examine(Box::new(order)), &memory)?;
        let plugins = loop {
            match said(&mut child)? {
                FromProbe::Opening => examined.step = Step::Open,
                FromProbe::Opened => examined.step = Step::Start,
                FromProbe::Started(plugins) => break plugins,
                FromProbe::Refused(refusal) => return Err(End::Refused(refusal)),
                other => return Err(unexpected(&other)),
            }
        };
        examined.plugins = names(&plugins);
        configure(&mut child, &job.confs, examined)?;
        examined.step = Step::Drop;
        finish(&mut child)
    }
}

fn said(child: &mut Child) -> Result<FromProbe, Trouble> {
    child.next().map(|received| received.message)
}

fn configure(child: &mut Child, confs: &Confs, examined: &mut Examined) -> Result<(), End> {
    let enough = Instant::now() + CONFS;
    let confs = verdicts::naming(confs, &examined.plugins);
    let mut left = confs.len();
    for payload in confs {
        if Instant::now() > enough {
            tracing::warn!(left, "configuring takes long: the rest is not probed");
            break;
        }
        let key = route_key(payload);
        examined.step = Step::Configure(key.clone());
        child.tell(&ToProbe::Conf, payload, &[])?;
        match said(child)? {
            FromProbe::Configured(Ok(())) => {}
            FromProbe::Configured(Err(cause)) => examined.refusals.push(format!("{key}: {cause}")),
            other => return Err(unexpected(&other)),
        }
        left -= 1;
    }
    Ok(())
}

fn finish(child: &mut Child) -> Result<(), End> {
    child.tell(&ToProbe::Finish, &[], &[])?;
    match said(child) {
        Ok(FromProbe::Finished) => Ok(()),
        Ok(other) => Err(unexpected(&other)),
        // Old values are dropped on a thread of their own: one that hangs there holds up nobody.
        Err(Trouble::Late(_)) => Ok(()),
        Err(trouble) => Err(trouble.into()),
    }
}

/// How far a probe came, and what it found.
#[derive(Debug, Default)]
struct Examined {
    step: Step,
    plugins: Vec<String>,
    refusals: Vec<String>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Check,
    Open,
    Start,
    /// This route's conf.
    Configure(String),
    Drop,
}

enum End {
    Refused(Refusal),
    Trouble(Trouble),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Examined {
    /// Whether the same would come out another time. What a library gives as a reason may lie outside of it: another
    /// library that it needs, a backend that is down.
    fn lasts(&self, end: &Result<(), End>) -> bool {
        match end {
            Ok(()) => true,
            Err(End::Trouble(Trouble::Ended(_))) => !matches!(self.step, Step::Check),
            Err(_) => false,
        }
    }
}

fn verdict(trouble: &Trouble, step: &Step) -> Verdict {
    let doing = match step {
        Step::Check => "before it was opened".to_owned(),
        Step::Open => "while it was opened (in a constructor)".to_owned(),
        Step::Start => "in init_worker".to_owned(),
        Step::Configure(key) => format!("while it configured the conf of {key}"),
        Step::Drop => "while its values were dropped".to_owned(),
    };
    let refusal = |cause: String, hint: &str| Refusal {
        cause,
        hint: Some(hint.to_owned()),
    };
    match trouble {
        Trouble::Ended(status) => Verdict::Refused(refusal(
            format!("it ended its probe ({status}) {doing}"),
            "correct the library; it is tried again when the file changes",
        )),
        Trouble::Killed => Verdict::Unknown(refusal(
            format!("its probe was killed {doing}"),
            "there may be too little memory; it is tried again later",
        )),
        Trouble::Late(deadline) => Verdict::Unknown(refusal(
            format!("it did not come back within {deadline:?} {doing}"),
            "plugins.probe_deadline is how long each step may take; it is tried again later, or when the file changes",
        )),
        Trouble::System(cause) => Verdict::Unknown(refusal(
            format!("it cannot be probed: {cause}"),
            "it is tried again later",
        )),
    }
}

fn unexpected(message: &FromProbe) -> End {
    Trouble::System(io::Error::other(format!(
        "the probe said something out of turn: {message:?}"
    )))
    .into()
}

fn names(plugins: &[LoadedPlugin]) -> Vec<String> {
    plugins.iter().map(|plugin| plugin.name.clone()).collect()
}

fn route_key(payload: &[u8]) -> String {
    let key = PrepareConf::parse(payload).map(|conf| String::from_utf8_lossy(conf.key).into());
    key.unwrap_or_default()
}
