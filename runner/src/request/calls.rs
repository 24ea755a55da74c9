//! The calls of the gateway: from a frame to a chain, and from its end to a reply.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use tokio::sync::{Semaphore, watch};

use super::answers::{Answers, Wanted};
use super::assemble::Assembler;
use super::chain::{Chain, Snapshot};
use super::chains::{Chains, Taken};
use super::conf::Conf;
use super::run::{self, Place, Verdict};
use super::service::{Ask, Blame, Call, CallKind, ErrorCode, Placement, Refused, Service};
use super::state::{Message, State};
use super::watched::WatchedCall;
use super::{failures, reply};
use crate::config::Config;
use crate::plugins::generation::Generation;
use crate::plugins::registry::{Change, Registry};
use crate::protocol::message::{self, ExtraInfo, Malformed, Question, RequestCall, ResponseCall};
use crate::request::assign::AssignToken;

/// How long a change of a library waits for the confs that name it.
const ASSEMBLY: Duration = Duration::from_secs(2);

/// All that calls need: the chains, and the plugins behind them.
pub struct Calls {
    chains: Chains,
    registry: Arc<Registry>,
    assembler: Assembler,
    tokens: Arc<dyn AssignToken>,
    config: Arc<Config>,
}

impl Calls {
    /// # Errors
    /// No thread can be had.
    pub fn new(config: Config, tokens: Arc<dyn AssignToken>) -> io::Result<Self> {
        let config = Arc::new(config);
        let registry = Arc::new(Registry::new(config.plugins.files.clone()));
        Ok(Self {
            chains: Chains::default(),
            assembler: Assembler::new(Arc::clone(&registry), Arc::clone(&config))?,
            registry,
            tokens,
            config,
        })
    }

    /// The plugins.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Begins to serve: the libraries that were collected are all there are for now. `served`: see [`Registry::open`].
    pub fn open(&self, served: &BTreeMap<String, PathBuf>) {
        self.registry.open(served);
        for chain in self.chains.all() {
            drop(self.assembler.assemble(chain));
        }
    }

    /// Takes a conf whose token was assigned to an earlier worker.
    pub fn remember(&self, token: u32, payload: &[u8]) {
        match Conf::read(payload) {
            Ok(conf) => {
                if let Err(error) = self.add(token, conf) {
                    tracing::error!(token, "the conf of an earlier worker is not taken: {error}");
                }
            }
            Err(error) => tracing::error!(
                token,
                "the conf of an earlier worker cannot be read: {error}"
            ),
        }
    }

    /// The calls of the token wait until its confs are configured: not before the libraries are known.
    fn add(&self, token: u32, conf: Conf) -> Result<(), Taken> {
        if let Some(chain) = self.chains.add(token, conf)?
            && self.registry.is_open()
        {
            drop(self.assembler.assemble(chain));
        }
        Ok(())
    }

    fn token(&self, payload: &[u8], conf: Conf) -> Result<u32, String> {
        let token = self.tokens.assign(payload)?;
        self.add(token, conf).map_err(|error| error.to_string())?;
        Ok(token)
    }

    /// Moves the chains that name these plugins to what serves them now. Waits for their confs.
    pub fn moved(&self, changes: &[Change]) {
        let mut chains: Vec<Arc<Chain>> = Vec::new();
        for change in changes {
            chains.extend(self.chains.naming(&change.name));
        }
        chains.sort_by_key(|chain| chain.token);
        chains.dedup_by_key(|chain| chain.token);
        self.assembler.assemble_all(chains, ASSEMBLY);
    }

    /// How many confs each generation serves, by its number.
    pub fn confs(&self) -> HashMap<u64, usize> {
        let mut confs = HashMap::new();
        for chain in self.chains.all() {
            for prepared in chain.snapshot().ready() {
                *confs.entry(prepared.generation().number).or_default() += 1;
            }
        }
        confs
    }

    /// Forgets the tokens that the gateway has forgotten long ago.
    pub fn expire(&self) {
        for token in self.chains.expire(self.config.tokens.expire) {
            self.tokens.forget(token);
        }
    }
}

fn unreadable(what: &str, error: &Malformed) -> ErrorCode {
    if let Some(before) = failures().admit(&format!("malformed {what} {error}")) {
        tracing::warn!(
            before,
            "the gateway sent {what} that cannot be read: {error}"
        );
    }
    ErrorCode::BadRequest
}

fn token(kind: CallKind, payload: &[u8]) -> Result<u32, Malformed> {
    match kind {
        CallKind::Request => RequestCall::conf_token(payload),
        CallKind::Response => ResponseCall::conf_token(payload),
    }
}

impl Service for Calls {
    type Call = PluginCall;

    fn prepare_conf(&self, payload: &[u8], out: &mut Vec<u8>) {
        let conf = match Conf::read(payload) {
            Ok(conf) => conf,
            Err(error) => {
                return message::error(out, unreadable("a PREPARE_CONF", &error));
            }
        };
        let route_key = conf.route_key.clone();
        match self.token(payload, conf) {
            Ok(token) => {
                tracing::debug!(token, route_key, "prepared");
                message::prepared(out, token);
            }
            Err(error) => {
                if let Some(before) = failures().admit(&error) {
                    tracing::error!(route_key, before, "no conf token: {error}");
                }
                message::error(out, ErrorCode::ServiceUnavailable);
            }
        }
    }

    fn admit(&self, kind: CallKind, payload: Vec<u8>, now: Instant) -> Result<PluginCall, Refused> {
        let token = match token(kind, &payload) {
            Ok(token) => token,
            Err(error) => {
                return Err(Refused {
                    code: unreadable("a call", &error),
                    payload,
                });
            }
        };
        let admitted = self.chains.with(token, |chain| {
            chain.touch(now);
            let snapshot = chain.snapshot();
            let unsettled = (!snapshot.settled).then(|| Arc::clone(chain));
            (snapshot, unsettled)
        });
        let Some((snapshot, unsettled)) = admitted else {
            tracing::debug!(
                token,
                "unknown conf token: the gateway will prepare its confs again"
            );
            return Err(Refused {
                code: ErrorCode::ConfTokenNotFound,
                payload,
            });
        };
        Ok(PluginCall {
            kind,
            payload,
            snapshot,
            unsettled,
            started: now,
            answers: Answers::default(),
            answered: 0,
            place: Cell::new(Place::Thread),
        })
    }
}

/// One call.
pub struct PluginCall {
    kind: CallKind,
    payload: Vec<u8>,
    snapshot: Arc<Snapshot>,
    /// While its confs are configured for the first time.
    unsettled: Option<Arc<Chain>>,
    started: Instant,
    answers: Answers,
    answered: usize,
    place: Cell<Place>,
}

thread_local! {
    /// Where plugins' changes of the call on this thread live. Kept, so that a call allocates nothing.
    static ARENA: Cell<Option<Bump>> = const { Cell::new(None) };
}

/// An arena that has grown beyond this is given back after its call.
const ARENA_KEPT: usize = 256 << 10;

impl PluginCall {
    fn id(&self) -> u32 {
        match self.kind {
            CallKind::Request => RequestCall::parse(&self.payload).map_or(0, |call| call.id),
            CallKind::Response => ResponseCall::parse(&self.payload).map_or(0, |call| call.id),
        }
    }

    fn run_in(
        &self,
        arena: &Bump,
        deadline: Instant,
        blame: &Blame,
        ask: &mut dyn Ask,
        out: &mut Vec<u8>,
    ) {
        let message = match self.kind {
            CallKind::Request => RequestCall::open(&self.payload).map(Message::Request),
            CallKind::Response => ResponseCall::open(&self.payload).map(Message::Response),
        };
        let route_key = &self.snapshot.route_key;
        let checked = message.and_then(|message| Ok((message, message.lists(arena)?)));
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => return message::error(out, unreadable("a call", &error)),
        };
        let mut state = State::new(arena, checked, route_key, deadline, &self.answers, ask);
        let verdict = run::run(&self.snapshot, &mut state, blame, self.place.get());
        if verdict == Verdict::Fail {
            return message::error(out, ErrorCode::ServiceUnavailable);
        }
        if let Err(error) = reply::write(&state, out) {
            if let Some(before) = failures().admit(&format!("too long {route_key}")) {
                tracing::error!(
                    id = state.message.id(),
                    route_key,
                    before,
                    "the reply is too large for the protocol: {error}"
                );
            }
            message::error(out, ErrorCode::ServiceUnavailable);
        }
    }
}

impl Call for PluginCall {
    type Watched = WatchedCall;

    fn pending(&mut self) -> Option<watch::Receiver<bool>> {
        let chain = self.unsettled.as_ref()?;
        let pending = chain.pending();
        if pending.is_none() {
            self.snapshot = chain.snapshot();
            self.unsettled = None;
        }
        pending
    }

    fn questions(&mut self, out: &mut Vec<u8>) -> usize {
        let needs = self.snapshot.needs(self.kind);
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
        let wanted = self.snapshot.needs(self.kind).get(self.answered).cloned();
        self.answered += 1;
        let wanted = wanted.ok_or(ErrorCode::BadRequest)?;
        ExtraInfo::parse(&payload)
            .map_err(|error| unreadable("an answer to EXTRA_INFO", &error))?;
        self.answers.keep(wanted, payload);
        Ok(())
    }

    fn placement(&self) -> Placement {
        let mut slow: Vec<&Arc<Generation>> = Vec::new();
        for prepared in self.snapshot.ready() {
            if !prepared.generation().pace.inline() {
                slow.push(prepared.generation());
            }
        }
        if slow.is_empty() {
            self.place.set(Place::Loop);
            return Placement::Inline;
        }
        slow.sort_by_key(|generation| generation.number);
        slow.dedup_by_key(|generation| generation.number);
        let permits = slow
            .iter()
            .map(|generation| Arc::clone(generation.pace.threads()));
        Placement::Threads(permits.collect::<Vec<Arc<Semaphore>>>())
    }

    fn watched(&self) -> WatchedCall {
        WatchedCall(Arc::clone(&self.snapshot))
    }

    fn run(&mut self, deadline: Instant, blame: &Blame, ask: &mut dyn Ask, out: &mut Vec<u8>) {
        blame.on_token(self.snapshot.token);
        let mut arena = ARENA.take().unwrap_or_default();
        self.run_in(&arena, deadline, blame, ask, out);
        if arena.allocated_bytes() <= ARENA_KEPT {
            arena.reset();
            ARENA.set(Some(arena));
        }
    }

    fn finish(self, answered: bool) -> Vec<u8> {
        tracing::trace!(
            id = self.id(),
            route_key = self.snapshot.route_key,
            answered,
            took = ?self.started.elapsed(),
            "call"
        );
        self.payload
    }
}
