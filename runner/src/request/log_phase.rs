//! The `log` phase: runs after the reply, on threads of its own, once for each call whose chain has it. A chain
//! without it costs nothing here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bumpalo::Bump;
use plugin_api::abi::numbers::phase;

use super::answers::Answers;
use super::bodies::Bodies;
use super::call_line::{self, Line};
use super::chain::{LinkState, Snapshot};
use super::end::End;
use super::hook::Hook;
use super::kept::Kept;
use super::log_queue::{Job, LogQueue};
use super::moment::Moment;
use super::observer;
use super::run::{self, runloop};
use super::service::{Ask, AskError, Blame, CallKind};
use super::state::{Message, Running, State};
use crate::plugins::instance::Decision;
use crate::protocol::payload::Payload;

/// What `Call::remaining` begins with. Nobody is waiting any more, and nothing ends a `log` that takes longer.
const TIME: Duration = Duration::from_secs(10);

fn queue() -> &'static LogQueue<LogJob> {
    static QUEUE: LazyLock<LogQueue<LogJob>> = LazyLock::new(LogQueue::default);
    &QUEUE
}

/// Waits until all calls that have ended are logged, at most `within`. Returns whether they are.
pub fn drain(within: Duration) -> bool {
    queue().drain(within)
}

/// Calls that were not logged, as too many were waiting.
pub fn dropped() -> u64 {
    queue().dropped()
}

/// What it takes to log a call, whoever ends it: the call itself or its deadline, while its thread is stuck.
#[derive(Debug)]
pub struct ToLog {
    kind: CallKind,
    payload: Vec<u8>,
    snapshot: Arc<Snapshot>,
    started: Moment,
    logged: AtomicBool,
}

impl ToLog {
    /// `None` when no plugin of the chain has a `log` phase.
    pub fn new(
        kind: CallKind,
        payload: &[u8],
        snapshot: &Arc<Snapshot>,
        started: Moment,
    ) -> Option<Arc<Self>> {
        snapshot.has(phase::LOG).then(|| {
            Arc::new(Self {
                kind,
                payload: payload.to_vec(),
                snapshot: Arc::clone(snapshot),
                started,
                logged: AtomicBool::new(false),
            })
        })
    }

    /// The call's deadline has passed while this generation ran.
    pub fn expired(self: &Arc<Self>, generation: Option<u64>) {
        let by = self.snapshot.links.iter().position(|link| {
            let mut generations = link.generations();
            generations.any(|known| Some(known.number) == generation)
        });
        self.log(End::deadline(by), Kept::default(), Answers::default());
    }

    /// Has the call logged, soon. Only the first who says so is heard.
    pub fn log(self: &Arc<Self>, mut end: End, kept: Kept, answers: Answers) {
        if self.logged.swap(true, Ordering::AcqRel) {
            return;
        }
        end.took = self.started.elapsed();
        queue().push(LogJob {
            call: Arc::clone(self),
            end,
            kept,
            answers,
        });
    }
}

/// A call that is over.
struct LogJob {
    call: Arc<ToLog>,
    end: End,
    kept: Kept,
    answers: Answers,
}

impl Job for LogJob {
    fn bytes(&self) -> usize {
        self.call.payload.len() + self.kept.bytes() + self.answers.bytes()
    }

    fn run(self) {
        let arena = Bump::new();
        let call = &*self.call;
        // It was read before, or no plugin would have been asked.
        let Ok(message) = Message::open(call.kind, &call.payload) else {
            return;
        };
        let lists = message.lists(&arena);
        if lists.check(call.kind).is_err() {
            return;
        }
        let (route_key, deadline) = (&call.snapshot.route_key, Moment::now() + TIME);
        let mut nobody = Nobody;
        let bodies = Bodies::default();
        let mut state = State::new(
            (&arena, &bodies),
            (message, &lists),
            route_key,
            deadline,
            &self.answers,
            &mut nobody,
        );
        self.kept.restore(&mut state);
        let ended_by = self.end.by.and_then(|link| call.snapshot.links.get(link));
        state.end = Some(self.end);
        state.ended_by = ended_by.map(|link| state.copy(link.name.as_bytes()));
        state.observer = observer::observer_of(&state);
        run_all(&call.snapshot, &mut state);
        call_line::write(&Line {
            id: state.message.id(),
            route_key,
            hook: Hook::of(call.kind, route_key),
            plugin: ended_by.map(|link| link.name.as_str()),
            end: &self.end,
            fields: call_line::fields(&state.changes.log_fields),
        });
    }
}

/// Every plugin's `log`; one that fails keeps no other from it.
fn run_all(snapshot: &Snapshot, state: &mut State<'_>) {
    let blame = Blame::of_this_thread();
    let begun = runloop::before_log(snapshot, &blame);
    for (index, link) in snapshot.links.iter().enumerate() {
        let LinkState::Ready(prepared) = link.resolve(state.whom()) else {
            continue;
        };
        if !prepared.generation().has(phase::LOG) {
            continue;
        }
        state.running = Running {
            link: index,
            generation: prepared.generation().number,
            phase: phase::LOG,
        };
        if let Decision::Failed { panicked } = run::lend(prepared, state, &blame) {
            let error = state.error.take().unwrap_or(b"it did not say why");
            let error = String::from_utf8_lossy(error);
            prepared.generation().tally.failed(panicked, &error);
            run::log_failure(link, state, panicked, &error);
        }
    }
    runloop::after(begun, state);
}

/// The gateway has its answer, and does not listen any more.
struct Nobody;

impl Ask for Nobody {
    fn ask(&mut self, _: &[u8]) -> Result<Payload, AskError> {
        Err(AskError::Over)
    }
}
