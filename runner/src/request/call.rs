//! One call of the gateway: from its admission, over its chain, to its reply and its end.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use bumpalo::Bump;
use plugin_api::abi::numbers::{action, ended};
use tokio::sync::{Semaphore, watch};

use super::answers::{Answers, Wanted};
use super::binder::Bindings;
use super::bound::Bound;
use super::call_line::{self, Line};
use super::calls::unreadable;
use super::chain::{Chain, Snapshot};
use super::end::End;
use super::hook::Hook;
use super::kept::Kept;
use super::log_phase::ToLog;
use super::run::{self, Place, Verdict};
use super::service::{Ask, Blame, Call, CallKind, ErrorCode, Placement};
use super::state::{Message, State};
use super::watched::WatchedCall;
use super::{failures, reply};
use crate::plugins::generation::Generation;
use crate::plugins::registry::Registry;
use crate::protocol::message::{self, ExtraInfo, Question};

/// One call.
pub struct PluginCall {
    kind: CallKind,
    payload: Vec<u8>,
    chain: Arc<Chain>,
    snapshot: Arc<Snapshot>,
    registry: Arc<Registry>,
    started: Instant,
    answers: Answers,
    answered: usize,
    place: Cell<Place>,
    /// `Some` if a plugin of the chain has a `log` phase.
    to_log: Option<Arc<ToLog>>,
    /// `Some` once it ran, if somebody wants to know.
    over: Option<Box<Over>>,
    /// `Some` if there are bindings.
    binding: Option<Box<Binding>>,
}

/// What a call needs to know of bindings.
struct Binding {
    bindings: Arc<Bindings>,
    bound: Option<Arc<Bound>>,
    /// What it asks before it runs.
    wanted: Vec<Wanted>,
}

/// What is known of a call that ran.
struct Over {
    end: End,
    kept: Kept,
    fields: String,
    deadline: Instant,
}

thread_local! {
    /// Where plugins' changes of the call on this thread live. Kept, so that a call allocates nothing.
    static ARENA: Cell<Option<Bump>> = const { Cell::new(None) };
}

/// An arena that has grown beyond this is given back after its call.
const ARENA_KEPT: usize = 256 << 10;

impl PluginCall {
    /// A call of this chain that begins now.
    pub(super) fn new(
        kind: CallKind,
        payload: Vec<u8>,
        chain: Arc<Chain>,
        registry: &Arc<Registry>,
        bindings: Option<Arc<Bindings>>,
    ) -> Self {
        let started = Instant::now();
        chain.touch(started);
        Self {
            kind,
            payload,
            snapshot: chain.snapshot(),
            chain,
            registry: Arc::clone(registry),
            started,
            answers: Answers::default(),
            answered: 0,
            place: Cell::new(Place::Thread),
            to_log: None,
            over: None,
            binding: bindings.map(|bindings| {
                Box::new(Binding {
                    bindings,
                    bound: None,
                    wanted: Vec::new(),
                })
            }),
        }
    }

    /// What it asks before it runs.
    fn wanted(&self) -> &[Wanted] {
        match &self.binding {
            Some(binding) => &binding.wanted,
            None => self.snapshot.needs(self.kind),
        }
    }

    /// Finds out what it asks, if there are bindings: which of them apply may depend on the answers.
    fn bind(&mut self) {
        let Some(mut binding) = self.binding.take() else {
            return;
        };
        if let Some(bound) = &binding.bound {
            let hook = Hook::of(self.kind, &self.chain.conf.route_key);
            binding.wanted = bound.scope_variables();
            let likely = if binding.wanted.is_empty() {
                self.plan(bound);
                Some(Arc::clone(&self.snapshot))
            } else {
                // The route will be that of the last call, as a rule: then its plugins' needs are asked along.
                self.chain.likely(hook)
            };
            let needs = likely.as_ref().unwrap_or(&self.snapshot).needs(self.kind);
            for wanted in bound.consumer_variable(hook).iter().chain(needs) {
                if !binding.wanted.contains(wanted) {
                    binding.wanted.push(wanted.clone());
                }
            }
        } else {
            binding.wanted = self.snapshot.needs(self.kind).to_vec();
        }
        self.binding = Some(binding);
    }

    fn plan(&mut self, bound: &Bound) {
        let hook = Hook::of(self.kind, &self.chain.conf.route_key);
        let answer = |asked| self.answers.get(&asked).flatten();
        self.snapshot = bound.plan(&self.chain, hook, answer);
        self.chain.note_likely(hook, &self.snapshot);
        self.prepare_log();
    }

    fn prepare_log(&mut self) {
        let (kind, started) = (self.kind, self.started);
        self.to_log = ToLog::new(kind, &self.payload, &self.chain, &self.snapshot, started);
    }

    fn run_in(
        &self,
        arena: &Bump,
        deadline: Instant,
        blame: &Blame,
        ask: &mut dyn Ask,
        out: &mut Vec<u8>,
    ) -> Option<Box<Over>> {
        let message = match Message::parse(self.kind, &self.payload) {
            Ok(message) => message,
            Err(error) => {
                message::error(out, unreadable("a call", &error));
                return None;
            }
        };
        let route_key = &self.chain.conf.route_key;
        let mut state = State::new(arena, message, route_key, deadline, &self.answers, ask);
        let mut verdict = run::run(&self.snapshot, &mut state, blame, self.place.get());
        if verdict == Verdict::Answer
            && let Err(error) = reply::write(&state, out)
        {
            if let Some(before) = failures().admit(&format!("too long {route_key}")) {
                tracing::error!(
                    id = message.id(),
                    route_key,
                    before,
                    "the reply is too large for the protocol: {error}"
                );
            }
            verdict = Verdict::Fail;
        }
        if verdict == Verdict::Fail {
            message::error(out, ErrorCode::ServiceUnavailable);
        }
        self.over(&state, verdict)
    }

    /// What somebody will want to know of it; `None`, at no cost, if nobody does.
    fn over(&self, state: &State<'_>, verdict: Verdict) -> Option<Box<Over>> {
        let wanted = self.to_log.is_some()
            || !state.changes.log_fields.changes().is_empty()
            || call_line::is_wanted();
        let kept = || match self.to_log {
            Some(_) => Kept::of(&state.changes),
            None => Kept::default(),
        };
        wanted.then(|| {
            Box::new(Over {
                end: End::of(state, verdict),
                kept: kept(),
                fields: call_line::fields(&state.changes.log_fields),
                deadline: state.deadline,
            })
        })
    }

    /// Has the call logged.
    fn log(self, answered: bool) -> Vec<u8> {
        let over = self.over.map(|over| *over);
        let mut end = match &over {
            Some(over) if answered => over.end,
            None if answered => End::new(action::ERROR, ended::FAILURE),
            over => End::unanswered(over.as_ref().map(|over| over.deadline)),
        };
        let (kept, fields) = over.map_or_else(Default::default, |over| (over.kept, over.fields));
        if let Some(to_log) = self.to_log {
            to_log.log(end, kept, self.answers);
            return self.payload;
        }
        end.took = self.started.elapsed();
        let link = end.by.and_then(|link| self.snapshot.links.get(link));
        let route_key = &self.chain.conf.route_key;
        call_line::write(&Line {
            id: Message::parse(self.kind, &self.payload).map_or(0, |message| message.id()),
            route_key,
            hook: Hook::of(self.kind, route_key),
            plugin: link.map(|link| link.name.as_str()),
            end: &end,
            fields,
        });
        self.payload
    }
}

impl Call for PluginCall {
    type Watched = WatchedCall;

    fn pending(&mut self) -> Option<watch::Receiver<bool>> {
        let pending = self.chain.pending();
        if pending.is_none() {
            self.snapshot = self.chain.snapshot();
            if let Some(binding) = &mut self.binding {
                if let Some(pending) = binding.bindings.pending() {
                    return Some(pending);
                }
                binding.bound = binding.bindings.current();
            }
            self.prepare_log();
        }
        pending
    }

    fn questions(&mut self, out: &mut Vec<u8>) -> usize {
        self.bind();
        let needs = self.wanted();
        for wanted in needs {
            let asked = match wanted {
                Wanted::Variable(name) => Question::Var(name),
                Wanted::RequestBody => Question::RequestBody,
                Wanted::ResponseBody => Question::ResponseBody,
            };
            // A name that is too long for a frame cannot stand in the metadata section of a library.
            let _ = message::question(out, &asked);
        }
        needs.len()
    }

    fn answer(&mut self, payload: Vec<u8>) -> Result<(), ErrorCode> {
        let wanted = self.wanted().get(self.answered).cloned();
        self.answered += 1;
        let wanted = wanted.ok_or(ErrorCode::BadRequest)?;
        ExtraInfo::parse(&payload)
            .map_err(|error| unreadable("an answer to EXTRA_INFO", &error))?;
        self.answers.keep(wanted, payload);
        let bound = self.binding.as_ref().and_then(|it| it.bound.clone());
        if let Some(bound) = bound.filter(|_| self.answered == self.wanted().len()) {
            self.plan(&bound);
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        let mut slow: Vec<&Arc<Generation>> = Vec::new();
        for generation in self.snapshot.generations() {
            if !generation.pace.inline() {
                slow.push(generation);
            }
        }
        if slow.is_empty() {
            self.place.set(Place::Loop);
            return Placement::Inline;
        }
        // In one order everywhere, so that two calls never wait for each other's permits.
        slow.sort_by_key(|generation| generation.number);
        slow.dedup_by_key(|generation| generation.number);
        let permits = slow
            .iter()
            .map(|generation| Arc::clone(generation.pace.threads()));
        Placement::Threads(permits.collect::<Vec<Arc<Semaphore>>>())
    }

    fn watched(&self) -> WatchedCall {
        WatchedCall {
            chain: Arc::clone(&self.chain),
            registry: Arc::clone(&self.registry),
            to_log: self.to_log.clone(),
        }
    }

    fn run(&mut self, deadline: Instant, blame: &Blame, ask: &mut dyn Ask, out: &mut Vec<u8>) {
        let mut arena = ARENA.take().unwrap_or_default();
        self.over = self.run_in(&arena, deadline, blame, ask, out);
        if arena.allocated_bytes() <= ARENA_KEPT {
            arena.reset();
            ARENA.set(Some(arena));
        }
    }

    fn finish(self, answered: bool) -> Vec<u8> {
        if self.to_log.is_none() && self.over.is_none() {
            return self.payload;
        }
        self.log(answered)
    }
}
