//! All that calls need, and how one begins: from a token to its chain.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assemble::Assembler;
use super::binder::Bindings;
use super::call::PluginCall;
use super::call_binding::CallBinding;
use super::chain::{Chain, Link, LinkState};
use super::chains::{Chains, Taken};
use super::conf::Conf;
use super::failures;
use super::moment::Moment;
use super::older::OlderBuilds;
use super::saved::SavedState;
use super::service::{Blame, CallKind, ErrorCode, Refused, Service};
use super::watched::WatchedCall;
use crate::config::{Binding, Config};
use crate::plugins::generation::Generation;
use crate::plugins::registry::{Change, Registry};
use crate::protocol::message::{self, Malformed, RequestCall, ResponseCall};
use crate::protocol::payload::Payload;
use crate::request::assign::{AssignToken, Stay};

/// How long a change of a library waits for the confs that name it.
const ASSEMBLY: Duration = Duration::from_secs(2);

/// All that calls need: the chains, and the plugins behind them.
pub struct Calls {
    chains: Chains,
    bindings: Arc<Bindings>,
    registry: Arc<Registry>,
    older: Arc<OlderBuilds>,
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
        let older = Arc::new(OlderBuilds::new(Arc::clone(&tokens)));
        Ok(Self {
            chains: Chains::default(),
            bindings: Arc::default(),
            assembler: Assembler::new(
                Arc::clone(&registry),
                Arc::clone(&config),
                Arc::clone(&older),
            )?,
            registry,
            older,
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

    /// Begins to serve: the libraries that were collected are all there are for now. Waits for the confs, at most
    /// `settle`. `served`: see [`Registry::open`].
    pub fn open(&self, served: &BTreeMap<String, PathBuf>, settle: Duration) {
        self.registry.open(served);
        self.bindings.assemble(&self.assembler);
        if !settle.is_zero() {
            return self.assembler.assemble_all(self.chains.all(), settle);
        }
        for chain in self.chains.all() {
            drop(self.assembler.assemble(chain));
        }
    }

    /// Takes bindings: instead of those there were, once they are configured.
    pub fn bind(&self, bindings: Vec<Binding>) {
        self.bindings.take(bindings);
        if self.registry.is_open() {
            self.bindings.assemble(&self.assembler);
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

    /// Takes what an earlier worker served with older builds: before it serves.
    pub fn inherit(&self, conf: [u8; 32], stays: Vec<Stay>) {
        self.older.inherit(conf, stays);
    }

    /// Takes a build that only confs need which the newest one refuses. Waits for them if it comes late.
    pub fn add_older(&self, generation: &Arc<Generation>) {
        self.registry.add_older(generation);
        self.older.add(generation);
        if self.registry.is_open() {
            self.reassemble(generation.name());
        }
    }

    /// Assembles the chains and bindings anew that name a plugin. Waits for their confs.
    pub fn reassemble(&self, plugin: &str) {
        let bound = self.bindings.follow(plugin, &self.assembler);
        let chains = self.chains.naming(plugin);
        self.assembler.assemble_all(chains, ASSEMBLY);
        self.assembler.wait(vec![bound], ASSEMBLY);
        self.forget_plans();
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

    /// Moves the chains and bindings that name these plugins to what serves them now. Waits for their confs.
    pub fn moved(&self, changes: &[Change]) {
        let mut chains: Vec<Arc<Chain>> = Vec::new();
        let mut bound = Vec::new();
        for change in changes {
            chains.extend(self.chains.naming(&change.name));
            bound.push(self.bindings.follow(&change.name, &self.assembler));
        }
        chains.sort_by_key(|chain| chain.token);
        chains.dedup_by_key(|chain| chain.token);
        self.assembler.assemble_all(chains, ASSEMBLY);
        self.assembler.wait(bound, ASSEMBLY);
        self.forget_plans();
    }

    /// What was planned with an old build would keep it.
    fn forget_plans(&self) {
        if let Some(bound) = self.bindings.current() {
            bound.forget_plans();
        }
    }

    /// How long each token has not been used, for the next worker.
    pub fn unused(&self) -> Vec<(u32, Duration)> {
        let now = Instant::now();
        let unused = |chain: &Chain| now.saturating_duration_since(chain.last_used(now));
        let chains = self.chains.all();
        let chains = chains.iter().map(|chain| (chain.token, unused(chain)));
        chains.collect()
    }

    /// Takes how long tokens were not used in the worker before this one, so that they expire as if there were only one.
    pub fn were_unused(&self, unused: &[(u32, Duration)]) {
        for (token, for_long) in unused {
            self.chains
                .with(*token, |chain| chain.was_unused(*for_long));
        }
    }

    /// The states of all confs, for the next worker: those that come `within`, 64 MiB at most. What is left out is logged.
    /// Calls may go on meanwhile; what they change in a conf after its state was taken is lost. Blocks: not for event loops.
    pub fn export_states(&self, within: Duration) -> Vec<SavedState> {
        self.assembler.export_states(within)
    }

    /// Takes the states of the worker before this one; before [`Calls::open`] or after it, but before the first call. A
    /// state whose conf is not known yet waits a minute for it. Faults are logged, and the conf starts afresh. Blocks for
    /// two seconds at most.
    pub fn import_states(&self, states: Vec<SavedState>) {
        self.assembler.import_states(states);
    }

    /// How many confs each generation serves, by its number.
    pub fn confs(&self) -> HashMap<u64, usize> {
        let mut confs = HashMap::new();
        let mut count = |link: &Link| {
            if let LinkState::Ready(prepared) = &link.state {
                *confs.entry(prepared.generation().number).or_default() += 1;
            }
        };
        for chain in self.chains.all() {
            chain.snapshot().links.iter().for_each(&mut count);
        }
        let bound = self.bindings.current();
        bound.iter().flat_map(|bound| bound.links()).for_each(count);
        confs
    }

    /// How many bindings serve.
    pub fn bound(&self) -> usize {
        let current = self.bindings.current();
        current.map_or(0, |bound| bound.links().len())
    }

    /// Something about what serves each binding, in their order.
    pub fn of_bindings<T>(&self, what: impl Fn(&Link) -> T) -> Vec<T> {
        let current = self.bindings.current();
        let links = current.iter().flat_map(|bound| bound.links());
        links.map(what).collect()
    }

    /// Forgets the tokens that the gateway has forgotten long ago, and states that nobody has claimed.
    pub fn expire(&self) {
        for chain in self.chains.expire(self.config.tokens.expire) {
            self.older.forget(&chain.conf);
            self.tokens.forget(chain.token);
        }
        self.assembler.expire_states();
        self.forget_plans();
    }
}

pub(super) fn unreadable(what: &str, error: &Malformed) -> ErrorCode {
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

    fn watched(&self, blame: &Blame) -> Option<WatchedCall> {
        let snapshot = self.chains.with(blame.token(), |chain| chain.snapshot())?;
        let running = blame.now();
        Some(WatchedCall {
            snapshot,
            to_log: None,
            running: running.and_then(|(number, _)| self.registry.numbered(number)),
        })
    }

    #[inline]
    fn admit(&self, kind: CallKind, payload: Payload, now: Moment) -> Result<PluginCall, Refused> {
        let token = match token(kind, &payload) {
            Ok(token) => token,
            Err(error) => {
                return Err(Refused {
                    code: unreadable("a call", &error),
                    payload,
                });
            }
        };
        let is_active = self.bindings.is_active();
        let admitted = self.chains.with(token, |chain| {
            chain.touch();
            let snapshot = chain.snapshot();
            let bindings = is_active.then(|| (Arc::clone(chain), Arc::clone(&self.bindings)));
            let unsettled = (!snapshot.settled).then(|| Arc::clone(chain));
            (snapshot, unsettled, bindings)
        });
        let Some((snapshot, unsettled, bindings)) = admitted else {
            tracing::debug!(
                token,
                "unknown conf token: the gateway will prepare its confs again"
            );
            return Err(Refused {
                code: ErrorCode::ConfTokenNotFound,
                payload,
            });
        };
        let binding = bindings.map(|(chain, bindings)| Box::new(CallBinding::new(chain, bindings)));
        Ok(PluginCall::new(
            kind, payload, now, snapshot, unsettled, binding,
        ))
    }
}
