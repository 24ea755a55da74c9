//! The supervisor's main loop: one event after the other, on the main thread. Never opens plugin code, never waits
//! for a worker.

pub(super) mod bindings;
mod by_hand;
mod crashes;
mod holdup;
mod last_good;
mod libraries;
mod life;
mod older;
mod prepared;
mod probes;
mod questions;
mod recycle;
mod remover;
mod reread;
mod stager;
mod status;
mod succession;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use self::bindings::Bindings;
use self::by_hand::ByHand;
use self::holdup::HoldUp;
pub(super) use self::older::Older;
pub(super) use self::prepared::Untold;
pub(super) use self::questions::Questions;
pub(super) use self::recycle::Recycles;
pub(super) use self::stager::Stager;
use self::stager::{RecallReport, StagerReport};
use super::admin::message::Request;
use super::admin::{Admin, Reply};
use super::backoff::Backoff;
use super::control::message::{FromWorker, ToWorker};
use super::folder::{FolderError, Scan};
use super::heap;
use super::last_good::{LastGood, Seen};
use super::parent::Parent;
use super::prober::{ProbeReport, Prober};
use super::quarantine::Quarantine;
use super::reload::Reload;
use super::signals::{Signals, Wanted};
use super::socket::Socket;
use super::spawn::{Host, Worker};
use super::successor::{Successor, SuccessorError};
use super::tokens::Tokens;
use super::watch::Watch;
use super::workshop::{Library, LoadedPlugin, Refusal, Served, Sha256};
use crate::config::Config;
use crate::supervise::accounts::Identity;
use crate::telemetry::Telemetry;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal.
    Asked(Wanted),
    /// The gateway is gone.
    ParentGone,
    /// The plugins folder was looked at.
    Scanned(Result<Scan, FolderError>),
    /// A library was checked and copied, or not.
    Staged(StagerReport),
    /// What served earlier was made ready to serve again, or not.
    Recalled(RecallReport),
    /// A library was probed.
    Probed(ProbeReport),
    /// The file with the bindings has changed.
    BindingsChanged,
    /// From the worker of this number.
    Worker(u64, WorkerEvent),
    /// Somebody asks something, and may give something.
    Question(Request, Vec<OwnedFd>, Reply),
    /// The runner that has our path takes our connections, or not.
    Successor(Result<Successor, SuccessorError>),
    /// It is time.
    Timer(Timer),
}

/// What comes from a worker.
#[derive(Debug)]
pub(super) enum WorkerEvent {
    /// A message and its tail.
    Says(FromWorker, Vec<u8>),
    /// Its control socket is closed.
    Disconnected,
    /// Its process has ended, and waits to be buried.
    Ended,
}

/// What was to be done later.
#[derive(Debug)]
pub(super) enum Timer {
    /// The libraries had their time: the worker of this number accepts connections now.
    LoadsAreOver(u64),
    /// The library of this generation had its time to start in the worker of this number.
    LoadIsLate { worker: u64, generation: u64 },
    /// Copies of what served earlier had their time: whoever waits for them goes on.
    RecallsAreOver,
    /// The worker had its time to answer this question for its report.
    ReportIsLate(u64),
    /// Nothing may be under way any more since this reload was asked for.
    ReloadIsLate(u64),
    /// The next worker may start.
    StartWorker,
    /// The worker of this number had its time to become ready for taking over.
    RecycleIsLate(u64),
    /// Whoever asked for the recycle that ends the worker of this number has waited long enough.
    RecycleIsLong(u64),
    /// The worker of this number had its time to finish its calls.
    LeavingIsLate(u64),
    /// The connections of this worker, which has a successor, are to be offered again.
    HandOverAgain(u64),
    /// To look at the budgets of the worker.
    Look,
    /// Libraries were copied, tried and loaded: what that took can be given back.
    GiveBack,
    /// The runner at our path had its time to answer.
    SuccessorIsLate,
    /// Calls in flight had their time.
    StopNow,
}

/// How long after the copy of a library memory is given back: it is tried and loaded meanwhile.
const BUSY: Duration = Duration::from_secs(2);

/// Everything that outlives a worker.
pub(super) struct Supervisor {
    pub(super) config: Config,
    pub(super) identity: Option<Identity>,
    pub(super) host: Host,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) socket: Socket,
    pub(super) tokens: Tokens,
    pub(super) parent: Option<Parent>,
    pub(super) events: UnboundedSender<Event>,
    pub(super) libraries: Libraries,
    pub(super) bindings: Bindings,
    /// The one that serves, or is to.
    pub(super) worker: Option<Worker>,
    pub(super) last_worker: u64,
    pub(super) recycles: Recycles,
    pub(super) untold: Untold,
    /// Workers that finish their calls before we stop.
    pub(super) draining: BTreeSet<u64>,
    pub(super) backoff: Backoff,
    /// The first worker was told to serve.
    pub(super) announced: bool,
    /// Since when we have been asked to stop.
    pub(super) stopping: Option<Instant>,
    /// The runner at our path was asked to take our connections.
    pub(super) asking_successor: bool,
    /// Who or what was found at our socket's path, if it is not ours any more.
    pub(super) usurper: Option<String>,
    pub(super) since: Since,
    /// Memory will be given back.
    pub(super) giving_back: bool,
    /// Asked and not answered yet.
    pub(super) questions: Questions,
    /// Its socket is removed with it.
    pub(super) admin: Option<Admin>,
}

/// What lies in the plugins folder, and what became of it.
pub(super) struct Libraries {
    pub(super) reload: Reload,
    pub(super) stager: Stager,
    /// `None` in one process: it is for debuggers, which are to see a crash.
    pub(super) prober: Option<Prober>,
    pub(super) quarantine: Quarantine,
    pub(super) watch: Option<Watch>,
    /// With `hot_reload: false`: until when the folder is looked at. Set when serving starts, and by SIGHUP.
    pub(super) looked_at_until: Option<Instant>,
    /// What each file offers while it serves.
    pub(super) offers: BTreeMap<PathBuf, Offer>,
    /// Why a file does not serve as it is.
    pub(super) refusals: BTreeMap<PathBuf, Refusal>,
    /// To be probed whatever earlier probes said.
    pub(super) probe_again: HashSet<PathBuf>,
    /// Which file serves each plugin, for the next worker: where several offer one, it cannot know.
    pub(super) served: Served,
    /// Copies, opened, by generation: their folder may be removed while they serve.
    pub(super) copies: HashMap<u64, OwnedFd>,
    /// The states of their files, by generation, where those are certain.
    pub(super) seen: HashMap<u64, Seen>,
    /// What has served, in this runner and in earlier ones.
    pub(super) good: LastGood,
    /// Copies of files that are gone since earlier runners were deleted.
    pub(super) forgot: bool,
    /// Contents that were tried in this runner and did not serve.
    pub(super) unusable: HashSet<Sha256>,
    /// Generations whose start did not come back, and that count as refused.
    pub(super) hung: BTreeSet<u64>,
    /// Generations that were made of what had served earlier: when, in seconds since 1970, if that is known.
    pub(super) recalled: HashMap<u64, Option<u64>>,
    /// What was decided by hand and is not done yet, by file.
    pub(super) by_hand: HashMap<PathBuf, ByHand>,
    /// Copies that the living worker may have open and no later one needs.
    pub(super) retired: Vec<Library>,
    /// Builds among those that confs stay on.
    pub(super) older: Older,
    /// The folder's fault that was logged last.
    pub(super) fault: Option<FolderError>,
}

/// What a file offers.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) generation: u64,
    pub(super) plugins: Vec<LoadedPlugin>,
    /// When it was first loaded.
    pub(super) since: SystemTime,
}

/// When the supervisor started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) time: SystemTime,
    pub(super) instant: Instant,
}

impl Since {
    /// It starts now.
    pub(super) fn now() -> Self {
        Self {
            time: SystemTime::now(),
            instant: Instant::now(),
        }
    }
}

/// Whether the loop goes on.
pub(super) type Flow = std::ops::ControlFlow<()>;

impl Supervisor {
    /// Until it is asked to stop. On the thread that lives as long as the process.
    ///
    /// # Errors
    /// When no worker can be started from the beginning.
    pub(super) async fn run(
        mut self,
        mut inbox: UnboundedReceiver<Event>,
        mut signals: Signals,
    ) -> anyhow::Result<()> {
        self.start_worker()?;
        self.look_at_budgets();
        loop {
            let event = tokio::select! {
                event = inbox.recv() => event,
                wanted = signals.next() => Some(Event::Asked(wanted)),
            };
            // The supervisor holds a sender itself, so there is always a next event.
            let Some(event) = event else { break };
            let hold_up = HoldUp::watch(&event);
            let flow = self.on(event);
            hold_up.over();
            if flow.is_break() {
                break;
            }
        }
        self.end();
        Ok(())
    }

    fn on(&mut self, event: Event) -> Flow {
        match event {
            // Somebody at a terminal does not want to wait.
            Event::Asked(Wanted::Stop("SIGINT")) if self.stopping.is_some() => {
                return Flow::Break(());
            }
            Event::Asked(Wanted::Stop(signal)) => return self.stop(signal),
            Event::Asked(Wanted::Rescan) => {
                self.log_reread();
                // Why not is logged.
                let _ = self.rescan();
            }
            Event::Asked(Wanted::ReopenLog) => self.telemetry.reopen(),
            Event::ParentGone => return self.stop("the gateway is gone"),
            Event::Scanned(scan) => {
                self.scanned(scan);
                if self.parent.as_ref().is_some_and(Parent::is_gone) {
                    return self.stop("the gateway is gone");
                }
            }
            Event::BindingsChanged => self.log_reread_bindings(),
            Event::Staged(report) => {
                self.give_back_soon();
                self.staged(report);
            }
            Event::Recalled(report) => self.recalled(report),
            Event::Probed(report) => self.probed(report),
            Event::Worker(number, event) => {
                if self.dispatch(number, event).is_break() {
                    return Flow::Break(());
                }
            }
            Event::Question(request, gift, reply) => self.question(request, gift, reply),
            Event::Successor(answer) => self.successor_answered(answer),
            Event::Timer(timer) => {
                if self.on_timer(timer).is_break() {
                    return Flow::Break(());
                }
            }
        }
        self.serve_if_settled();
        self.answer_reloads();
        Flow::Continue(())
    }

    fn on_timer(&mut self, timer: Timer) -> Flow {
        match timer {
            Timer::LoadsAreOver(number) if self.is_current(number) => {
                self.loads_are_over();
            }
            Timer::LoadsAreOver(_) | Timer::RecallsAreOver => {}
            Timer::LoadIsLate { worker, generation } => {
                if self.is_current(worker) {
                    self.load_is_late(generation);
                }
            }
            Timer::ReportIsLate(number) => self.answer_status(number, None),
            Timer::ReloadIsLate(number) => self.reload_is_late(number),
            Timer::StartWorker => self.replace_worker(),
            Timer::SuccessorIsLate => self.successor_is_late(),
            Timer::RecycleIsLate(number) => self.recycle_is_late(number),
            Timer::RecycleIsLong(number) => self.recycle_is_long(number),
            Timer::LeavingIsLate(number) => self.leaving_is_late(number),
            Timer::HandOverAgain(number) => self.hand_over_again(number),
            Timer::Look => {
                self.look_at_budgets();
                self.look_at_socket();
            }
            Timer::GiveBack => {
                self.giving_back = false;
                // Questions for tokens do not wait for it.
                let thread = std::thread::Builder::new().name("give back".to_owned());
                let _ = thread.spawn(heap::give_back);
            }
            Timer::StopNow => {
                tracing::warn!("calls were still in flight when the time to stop was over");
                return Flow::Break(());
            }
        }
        Flow::Continue(())
    }

    fn is_current(&self, number: u64) -> bool {
        self.worker
            .as_ref()
            .is_some_and(|worker| worker.number == number)
    }

    fn tell(&self, message: ToWorker) {
        if let Some(worker) = &self.worker {
            worker.tell(message);
        }
    }

    fn give_back_soon(&mut self) {
        if !self.giving_back {
            self.giving_back = true;
            self.later(BUSY, Timer::GiveBack);
        }
    }

    fn later(&self, after: Duration, timer: Timer) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let _ = events.send(Event::Timer(timer));
        });
    }
}
