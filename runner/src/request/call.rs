//! One call of the gateway: from its admission, over its chain, to its reply and its end.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use bumpalo::Bump;
use plugin_api::abi::numbers::{action, ended};
use tokio::sync::{Semaphore, watch};

use super::answers::{Answers, Wanted};
use super::bodies::Bodies;
use super::call_binding::CallBinding;
use super::call_line::{self, Line};
use super::calls::unreadable;
use super::chain::{Chain, Snapshot};
use super::end::End;
use super::hook::Hook;
use super::kept::Kept;
use super::log_phase::ToLog;
use super::moment::Moment;
use super::run::{self, Place, Verdict};
use super::service::{Ask, Blame, Call, CallKind, ErrorCode, LongReply, Placement};
use super::state::{Message, State};
use super::watched::WatchedCall;
use super::{failures, reply};
use crate::plugins::generation::Generation;
use crate::protocol::frame::TooLong;
use crate::protocol::message::{self, ExtraInfo, Malformed, Question};
use crate::protocol::payload::Payload;

/// One call.
pub struct PluginCall {
    kind: CallKind,
    payload: Payload,
    snapshot: Arc<Snapshot>,
    /// While its confs are configured for the first time.
    unsettled: Option<Arc<Chain>>,
    started: Moment,
    answers: Answers,
    answered: u32,
    place: Cell<Place>,
    /// `Some` if a plugin of the chain has a `log` phase.
    to_log: Option<Arc<ToLog>>,
    /// `Some` once it ran, if somebody wants to know.
    over: Option<Box<Over>>,
    /// `Some` if there are bindings.
    binding: Option<Box<CallBinding>>,
    /// `Some` once it ran, if its reply has a large body.
    long_reply: Option<Box<LongReply>>,
}

/// What is known of a call that ran.
struct Over {
    end: End,
    kept: Kept,
    fields: String,
    deadline: Moment,
}

thread_local! {
    /// Where plugins' changes of the call on this thread live. Kept, so that a call allocates nothing.
    static ARENA: Cell<Option<Bump>> = const { Cell::new(None) };
}

/// An arena that has grown beyond this is given back after its call.
const ARENA_KEPT: usize = 256 << 10;

impl PluginCall {
    /// A call that begins now.
    #[inline]
    pub(super) fn new(
        kind: CallKind,
        payload: Payload,
        started: Moment,
        snapshot: Arc<Snapshot>,
        unsettled: Option<Arc<Chain>>,
        binding: Option<Box<CallBinding>>,
    ) -> Self {
        Self {
            kind,
            payload,
            snapshot,
            unsettled,
            started,
            answers: Answers::default(),
            answered: 0,
            place: Cell::new(Place::Thread),
            to_log: None,
            over: None,
            binding,
            long_reply: None,
        }
    }

    /// What it runs, once nothing of it is pending.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What it asks before it runs.
    fn wanted(&self) -> &[Wanted] {
        match &self.binding {
            Some(binding) => binding.wanted(),
            None => self.snapshot.needs(self.kind),
        }
    }

    /// Takes another snapshot, before it runs.
    fn take(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
        self.prepare_log();
    }

    /// Whether no plugin of a plain snapshot needs a thread.
    #[inline]
    fn is_quick(&self) -> bool {
        let mut ready = self.snapshot.ready();
        ready.all(|prepared| prepared.generation().pace.inline())
    }

    fn prepare_log(&mut self) {
        self.to_log = ToLog::new(self.kind, &self.payload, &self.snapshot, self.started);
    }

    /// Returns what somebody wants to know of it, and which of `bodies` the reply goes on with.
    fn run_in(
        &self,
        (arena, bodies): (&Bump, &Bodies),
        deadline: Moment,
        blame: &Blame,
        ask: &mut dyn Ask,
        out: &mut Vec<u8>,
    ) -> (Option<Box<Over>>, Option<usize>) {
        let unread = |out: &mut Vec<u8>, error: &Malformed| {
            message::error(out, unreadable("a call", error));
        };
        let message = match Message::open(self.kind, &self.payload) {
            Ok(message) => message,
            Err(error) => {
                unread(out, &error);
                return (None, None);
            }
        };
        let lists = message.lists(arena);
        if let Err(error) = lists.check(self.kind) {
            unread(out, &error);
            return (None, None);
        }
        let route_key = &self.snapshot.route_key;
        let opened = (message, &lists);
        let memory = (arena, bodies);
        let mut state = State::new(memory, opened, route_key, deadline, &self.answers, ask);
        let verdict = run::run(&self.snapshot, &mut state, blame, self.place.get());
        let concluded = self.conclude(&mut state, verdict, out);
        // All that it owns is in the arena. Not wrapped in `ManuallyDrop`: that would move it.
        mem::forget(state);
        concluded
    }

    /// Writes the reply of a call whose plugins have run.
    fn conclude(
        &self,
        state: &mut State<'_>,
        mut verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> (Option<Box<Over>>, Option<usize>) {
        if let Some(observer) = state.observer {
            observer.over(state);
        }
        let start = out.len();
        let mut body = None;
        if verdict == Verdict::Answer {
            match reply::write_head(state, out) {
                Ok(left_out) => body = left_out,
                Err(error) => {
                    self.too_long(state.message.id(), &error);
                    verdict = Verdict::Fail;
                }
            }
        }
        // Also one that only the reply came upon.
        if let Some(error) = state.lists.flaw() {
            out.truncate(start);
            message::error(out, unreadable("a call", &error));
            return (self.over(state, Verdict::Fail), None);
        }
        if verdict == Verdict::Fail {
            message::error(out, ErrorCode::ServiceUnavailable);
        }
        (self.over(state, verdict), body)
    }

    #[cold]
    fn too_long(&self, id: u32, error: &TooLong) {
        let route_key = &self.snapshot.route_key;
        if let Some(before) = failures().admit(&format!("too long {route_key}")) {
            tracing::error!(
                id,
                route_key,
                before,
                "the reply is too large for the protocol: {error}"
            );
        }
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
    #[inline(never)]
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
            return self.payload.into_buffer();
        }
        end.took = self.started.elapsed();
        let link = end.by.and_then(|link| self.snapshot.links.get(link));
        let route_key = &self.snapshot.route_key;
        call_line::write(&Line {
            id: Message::open(self.kind, &self.payload).map_or(0, |message| message.id()),
            route_key,
            hook: Hook::of(self.kind, route_key),
            plugin: link.map(|link| link.name.as_str()),
            end: &end,
            fields,
        });
        self.payload.into_buffer()
    }
}

impl Call for PluginCall {
    type Watched = WatchedCall;

    #[inline]
    fn is_plain(&self) -> bool {
        let settled = self.unsettled.is_none() && self.binding.is_none();
        let plain = settled && self.snapshot.is_simple(self.kind) && self.is_quick();
        if plain {
            self.place.set(Place::Loop);
        }
        plain
    }

    fn pending(&mut self) -> Option<watch::Receiver<bool>> {
        if let Some(chain) = &self.unsettled {
            if let Some(pending) = chain.pending() {
                return Some(pending);
            }
            self.snapshot = chain.snapshot();
            self.unsettled = None;
        }
        if let Some(pending) = self.binding.as_mut().and_then(|binding| binding.pending()) {
            return Some(pending);
        }
        self.prepare_log();
        None
    }

    fn questions(&mut self, out: &mut Vec<u8>) -> usize {
        if let Some(binding) = &mut self.binding
            && let Some(plan) = binding.begin(self.kind, &self.snapshot)
        {
            self.take(plan);
        }
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

    fn long_reply(&mut self) -> Option<LongReply> {
        self.long_reply.take().map(|reply| *reply)
    }

    fn holds(&self) -> usize {
        self.payload.len() + self.answers.bytes()
    }

    fn answer(&mut self, payload: Payload) -> Result<(), ErrorCode> {
        let wanted = self.wanted().get(self.answered as usize).cloned();
        self.answered += 1;
        let wanted = wanted.ok_or(ErrorCode::BadRequest)?;
        ExtraInfo::parse(&payload)
            .map_err(|error| unreadable("an answer to EXTRA_INFO", &error))?;
        self.answers.keep(wanted, payload);
        if self.answered as usize == self.wanted().len()
            && let Some(binding) = &self.binding
            && let Some(plan) = binding.answered(self.kind, &self.answers)
        {
            self.take(plan);
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        let is_slow = |generation: &&Arc<Generation>| !generation.pace.inline();
        let mut generations = self.snapshot.generations();
        if !generations.any(|each| is_slow(&each)) {
            self.place.set(Place::Loop);
            return Placement::Inline;
        }
        let generations = self.snapshot.generations();
        let mut slow: Vec<&Arc<Generation>> = generations.filter(is_slow).collect();
        slow.sort_by_key(|generation| generation.number);
        slow.dedup_by_key(|generation| generation.number);
        let permits = slow
            .iter()
            .map(|generation| Arc::clone(generation.pace.threads()));
        Placement::Threads(permits.collect::<Vec<Arc<Semaphore>>>())
    }

    fn watched(&self) -> WatchedCall {
        WatchedCall {
            snapshot: Arc::clone(&self.snapshot),
            to_log: self.to_log.clone(),
            running: None,
        }
    }

    fn run(&mut self, deadline: Moment, blame: &Blame, ask: &mut dyn Ask, out: &mut Vec<u8>) {
        blame.on_token(self.snapshot.token);
        let mut arena = ARENA.take().unwrap_or_default();
        let bodies = Bodies::default();
        let (over, body) = self.run_in((&arena, &bodies), deadline, blame, ask, out);
        self.over = over;
        if let Some(body) = body {
            self.long_reply = bodies.into_reply(body, out).map(Box::new);
        }
        if arena.allocated_bytes() <= ARENA_KEPT {
            arena.reset();
            ARENA.set(Some(arena));
        }
    }

    #[inline(always)]
    fn finish(self, answered: bool) -> Vec<u8> {
        if self.to_log.is_none() && self.over.is_none() {
            return self.payload.into_buffer();
        }
        self.log(answered)
    }
}
