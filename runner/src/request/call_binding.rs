//! What a call has to do with bindings: waits for them, finds out what it belongs to, and gets its plan.

use std::sync::Arc;

use tokio::sync::watch;

use super::answers::{Answers, Wanted};
use super::binder::Bindings;
use super::bound::Bound;
use super::chain::{Chain, Snapshot};
use super::hook::Hook;
use super::service::CallKind;

/// Only calls of a runner with bindings have one.
pub struct CallBinding {
    chain: Arc<Chain>,
    bindings: Arc<Bindings>,
    /// Taken once: all that the call may come to run.
    bound: Option<Arc<Bound>>,
    /// The snapshot of its own chain, until it has its plan.
    own: Option<Arc<Snapshot>>,
    wanted: Vec<Wanted>,
}

impl CallBinding {
    /// Of a call of this chain.
    pub fn new(chain: Arc<Chain>, bindings: Arc<Bindings>) -> Self {
        Self {
            chain,
            bindings,
            bound: None,
            own: None,
            wanted: Vec::new(),
        }
    }

    /// `Some` while the first bindings are being configured.
    pub fn pending(&mut self) -> Option<watch::Receiver<bool>> {
        let pending = self.bindings.pending();
        if pending.is_none() {
            self.bound = self.bindings.current();
        }
        pending
    }

    /// What the call asks before it runs: see [`CallBinding::begin`].
    pub fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Finds out what the call asks. `Some`: nothing of it says which bindings apply, and this is what it runs.
    pub fn begin(&mut self, kind: CallKind, own: &Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let Some(bound) = &self.bound else {
            self.wanted = own.needs(kind).to_vec();
            return None;
        };
        let hook = self.hook(kind);
        self.wanted = bound.scope_variables();
        let plan = self
            .wanted
            .is_empty()
            .then(|| bound.plan(own, hook, |_| None));
        self.own = plan.is_none().then(|| Arc::clone(own));
        // The route will be that of the last call, as a rule: then the needs of its plugins are asked along.
        let likely = plan.clone().or_else(|| self.chain.likely(hook));
        let needs = likely.as_ref().unwrap_or(own).needs(kind);
        for wanted in bound.consumer_variable(hook).iter().chain(needs) {
            if !self.wanted.contains(wanted) {
                self.wanted.push(wanted.clone());
            }
        }
        plan
    }

    /// After the last answer: what the call runs, unless that was known before.
    pub fn answered(&self, kind: CallKind, answers: &Answers) -> Option<Arc<Snapshot>> {
        let (bound, own) = self.bound.as_ref().zip(self.own.as_ref())?;
        let hook = self.hook(kind);
        let plan = bound.plan(own, hook, |asked| answers.get(&asked).flatten());
        self.chain.note_likely(hook, &plan);
        Some(plan)
    }

    fn hook(&self, kind: CallKind) -> Hook {
        Hook::of(kind, &self.chain.conf.route_key)
    }
}
