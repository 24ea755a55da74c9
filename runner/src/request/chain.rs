//! The plugins behind one token. A call takes one snapshot and keeps it: versions never mix inside a call.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapWeak};
use plugin_api::abi::numbers::phase;
use tokio::sync::watch;

use super::answers::{Asked, Wanted};
use super::bound::Scoped;
use super::conf::Conf;
use super::hook::Hook;
use super::service::CallKind;
use crate::config::OnFailure;
use crate::plugins::generation::Generation;
use crate::plugins::instance::Prepared;

/// One token's chain, in its present state.
#[derive(Debug)]
pub struct Chain {
    /// What the gateway calls it by.
    pub token: u32,
    /// What was prepared.
    pub conf: Arc<Conf>,
    /// What calls run.
    snapshot: ArcSwap<Snapshot>,
    /// What the last calls ran, with bindings: a request, a response. Those who planned it keep it.
    likely: [ArcSwapWeak<Snapshot>; 2],
    /// True once every conf was configured or refused for the first time.
    ready: watch::Sender<bool>,
    /// Number of the last assembly that was begun.
    begun: AtomicU64,
    /// Number of the last assembly that was published.
    published: Mutex<u64>,
    /// A call used it since somebody asked: see [`Chain::last_used`].
    used: AtomicBool,
    /// Milliseconds since `born` of the last use that somebody has noticed.
    last_used: AtomicU64,
    /// Milliseconds before `born` of the last use in an earlier worker.
    unused_before: AtomicU64,
    born: Instant,
}

/// What the calls of a chain run until the next change.
#[derive(Debug)]
pub struct Snapshot {
    /// What the gateway calls the chain by.
    pub token: u32,
    /// The gateway's key of the chain.
    pub route_key: String,
    /// How many came before it in its chain.
    pub version: u64,
    /// False before every conf was configured or refused for the first time: there are no links yet.
    pub settled: bool,
    /// In the gateway's order.
    pub links: Vec<Link>,
    needs: [Vec<Wanted>; 2],
    /// The phases that any of its plugins has, as bits.
    phases: u32,
    /// Every plugin serves, whoever the consumer is.
    pub plain: bool,
    /// By kind of call: see [`Snapshot::is_simple`].
    simple: [bool; 2],
}

/// One plugin of a chain.
#[derive(Debug, Clone)]
pub struct Link {
    /// The plugin's name.
    pub name: String,
    /// What it runs with.
    pub state: LinkState,
    /// What its failure means for the call.
    pub on_failure: OnFailure,
    /// It has bindings to consumers, of which one may apply once the consumer is known.
    pub scoped: Option<Arc<Scoped>>,
}

/// What a link runs with.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// It serves.
    Ready(Arc<Prepared>),
    /// It cannot run, for this reason: its calls fail.
    Failing(Arc<str>),
    /// It is bound to consumers only.
    Unbound,
}

impl LinkState {
    /// Whether a conf may stay on it.
    pub fn may_stay(&self) -> bool {
        match self {
            Self::Ready(prepared) => !prepared.generation().is_forbidden(),
            Self::Failing(_) | Self::Unbound => false,
        }
    }
}

impl Link {
    /// What it runs with for this consumer.
    pub fn resolve(&self, consumer: Option<&[u8]>) -> &LinkState {
        let bound = self.scoped.as_ref().zip(consumer);
        let found = bound.and_then(|(scoped, consumer)| scoped.find(consumer));
        found.unwrap_or(&self.state)
    }

    fn is_plain(&self) -> bool {
        self.scoped.is_none() && matches!(self.state, LinkState::Ready(_))
    }

    /// The builds of the plugin whose code may run here.
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        let own = match &self.state {
            LinkState::Ready(prepared) => Some(prepared.generation()),
            LinkState::Failing(_) | LinkState::Unbound => None,
        };
        let scoped = self.scoped.iter().flat_map(|scoped| scoped.generations());
        own.into_iter().chain(scoped)
    }
}

impl Chain {
    /// A chain whose confs are still to be configured.
    pub fn new(token: u32, conf: Conf) -> Self {
        let mut unsettled = Snapshot::new(token, &conf.route_key, Vec::new());
        unsettled.settled = false;
        unsettled.simple = [false; 2];
        let nothing = || ArcSwapWeak::new(Weak::new());
        Self {
            token,
            conf: Arc::new(conf),
            likely: [nothing(), nothing()],
            snapshot: ArcSwap::from_pointee(unsettled),
            ready: watch::Sender::new(false),
            begun: AtomicU64::new(0),
            published: Mutex::new(0),
            used: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
            unused_before: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// What a call runs: taken once, kept until its end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// `Some` until the confs were configured for the first time.
    pub fn pending(&self) -> Option<watch::Receiver<bool>> {
        (!*self.ready.borrow()).then(|| self.ready.subscribe())
    }

    /// The number of an assembly that begins now: before it asks what serves.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Puts another snapshot in place, for all calls from now on; unless an assembly that began later was faster, as
    /// one that hangs in author code must not keep its successors waiting.
    pub fn publish(&self, assembly: u64, links: Vec<Link>) {
        let mut last = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if assembly < *last {
            return;
        }
        *last = assembly;
        let mut next = Snapshot::new(self.token, &self.conf.route_key, links);
        next.version = self.snapshot.load().version + 1;
        self.snapshot.store(Arc::new(next));
        self.ready.send_replace(true);
    }

    /// What the last call from this hook ran, with bindings.
    pub fn likely(&self, hook: Hook) -> Option<Arc<Snapshot>> {
        self.likely[usize::from(hook == Hook::Response)]
            .load_full()
            .upgrade()
    }

    /// Notes what a call runs, with bindings.
    pub fn note_likely(&self, hook: Hook, plan: &Arc<Snapshot>) {
        let likely = &self.likely[usize::from(hook == Hook::Response)];
        let same = std::ptr::eq(likely.load().as_ptr(), Arc::as_ptr(plan));
        if !same {
            likely.store(Arc::downgrade(plan));
        }
    }

    /// Whether a conf names a plugin.
    pub fn names(&self, plugin: &str) -> bool {
        self.conf.plugins.iter().any(|conf| conf.name == plugin)
    }

    /// Notes a use. When it was is only known to whoever asks, as calls do not look at the clock for it.
    pub fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// When it was last used, or made; a use since the last question counts as one of `now`.
    pub fn last_used(&self, now: Instant) -> Instant {
        if self.used.swap(false, Ordering::Relaxed) {
            let since = now.saturating_duration_since(self.born).as_millis();
            let since = u64::try_from(since).unwrap_or(u64::MAX);
            self.last_used.store(since, Ordering::Relaxed);
        }
        match self.last_used.load(Ordering::Relaxed) {
            0 => {
                let before = Duration::from_millis(self.unused_before.load(Ordering::Relaxed));
                self.born.checked_sub(before).unwrap_or(self.born)
            }
            since => self.born + Duration::from_millis(since),
        }
    }

    /// In an earlier worker nobody had used it for this long.
    pub fn was_unused(&self, for_long: Duration) {
        let millis = u64::try_from(for_long.as_millis()).unwrap_or(u64::MAX);
        self.unused_before.store(millis, Ordering::Relaxed);
    }
}

impl Snapshot {
    /// A chain of these links, in this order.
    pub fn new(token: u32, route_key: &str, links: Vec<Link>) -> Self {
        let needs = [CallKind::Request, CallKind::Response].map(|kind| needs(&links, kind));
        let generations = links.iter().flat_map(Link::generations);
        let phases = generations.fold(0, |phases, generation| phases | generation.phases);
        let plain = links.iter().all(Link::is_plain);
        let logs = phases & 1 << phase::LOG != 0;
        let simple = needs
            .each_ref()
            .map(|needs| plain && !logs && needs.is_empty());
        Self {
            token,
            route_key: route_key.to_owned(),
            version: 0,
            settled: true,
            links,
            needs,
            phases,
            plain,
            simple,
        }
    }

    /// Every plugin serves, none needs more than the frame, and none logs.
    #[inline]
    pub fn is_simple(&self, kind: CallKind) -> bool {
        self.simple[usize::from(kind == CallKind::Response)]
    }

    /// Whether any of its plugins has a phase (`numbers::phase`).
    pub fn has(&self, phase: u32) -> bool {
        self.phases & 1 << phase != 0
    }

    /// What the plugins declare to need beyond the frame: asked before they run, in one go.
    pub fn needs(&self, kind: CallKind) -> &[Wanted] {
        &self.needs[usize::from(kind == CallKind::Response)]
    }

    /// The builds whose code may run.
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.links.iter().flat_map(Link::generations)
    }

    /// The plugins that serve.
    pub fn ready(&self) -> impl Iterator<Item = &Arc<Prepared>> {
        self.links.iter().filter_map(|link| match &link.state {
            LinkState::Ready(prepared) => Some(prepared),
            LinkState::Failing(_) | LinkState::Unbound => None,
        })
    }
}

/// The phases of a call, in order: all plugins run one, then all run the next.
pub fn phases(kind: CallKind) -> [u32; 2] {
    match kind {
        CallKind::Request => [phase::REWRITE, phase::ACCESS],
        CallKind::Response => [phase::HEADER_FILTER, phase::BODY_FILTER],
    }
}

fn needs(links: &[Link], kind: CallKind) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    let mut want = |what: Asked<'_>| {
        let what = what.to_wanted();
        if !wanted.contains(&what) {
            wanted.push(what);
        }
    };
    for generation in links.iter().flat_map(Link::generations) {
        if kind == CallKind::Response && generation.has(phase::BODY_FILTER) {
            want(Asked::ResponseBody);
        }
        for (_, needs) in generation
            .needs()
            .filter(|(number, _)| phases(kind).contains(number) || *number == phase::LOG)
        {
            needs
                .variables
                .iter()
                .for_each(|name| want(Asked::Variable(name.as_bytes())));
            if needs.request_body {
                want(Asked::RequestBody);
            }
            if needs.response_body && kind == CallKind::Response {
                want(Asked::ResponseBody);
            }
        }
    }
    wanted
}
