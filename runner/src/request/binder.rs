//! The bindings that serve now, and how others take their place. Each binding becomes a chain of one conf.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use super::assemble::Assembler;
use super::bindings::Table;
use super::bound::Bound;
use super::chain::{BINDING, Chain, LinkState};
use super::conf::{Conf, PluginConf};
use super::older::OlderBuilds;
use crate::config::Binding;

/// How long confs of bindings may be configured before the others serve without them: their calls fail until then.
const ASSEMBLY: Duration = Duration::from_secs(10);

/// The bindings of a worker.
#[derive(Debug)]
pub struct Bindings {
    /// Whether there are any: all that a call asks if there are none.
    active: AtomicBool,
    current: ArcSwapOption<Bound>,
    /// True once the first bindings were configured or refused.
    ready: watch::Sender<bool>,
    /// Those that will serve: not before the libraries are known.
    next: Mutex<Option<Arc<Bound>>>,
}

impl Default for Bindings {
    fn default() -> Self {
        Self {
            active: AtomicBool::new(false),
            current: ArcSwapOption::empty(),
            ready: watch::Sender::new(false),
            next: Mutex::default(),
        }
    }
}

impl Bindings {
    /// Whether a call has to look at bindings.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Those that serve.
    pub fn current(&self) -> Option<Arc<Bound>> {
        self.current.load_full()
    }

    /// `Some` until the first bindings were configured.
    pub fn pending(&self) -> Option<watch::Receiver<bool>> {
        (!*self.ready.borrow()).then(|| self.ready.subscribe())
    }

    /// Takes new bindings; [`Bindings::assemble`] makes them serve. What did not change keeps what was made of it.
    pub fn take(&self, bindings: Vec<Binding>) {
        // At the start calls wait for them. Later they go on as before until these are configured.
        if !bindings.is_empty() && self.pending().is_some() {
            self.active.store(true, Ordering::Release);
        }
        let before = self.current();
        let chain = |binding: &Binding| {
            let known = before.as_ref().and_then(|before| known(before, binding));
            known.unwrap_or_else(|| Arc::new(Chain::new(BINDING, conf(binding))))
        };
        let chains = bindings.iter().map(chain).collect();
        let bound = Arc::new(Bound::new(Table::new(bindings), chains));
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
    }

    /// Configures the bindings that were taken last, and makes them serve. If one of them is refused, those that serve go
    /// on; at the start its calls fail.
    pub fn assemble(self: &Arc<Self>, assembler: &Assembler) {
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(next) = next else {
            self.ready.send_replace(true);
            return;
        };
        let new = next
            .chains()
            .iter()
            .filter(|chain| chain.pending().is_some());
        let jobs: Vec<_> = new
            .map(|chain| assembler.assemble(Arc::clone(chain)))
            .collect();
        let bindings = Arc::clone(self);
        let older = Arc::clone(assembler.older());
        assembler.spawn(async move {
            let all = async {
                for job in jobs {
                    // Only the end of the runtime ends a job before its time.
                    let _ = job.await;
                }
            };
            if tokio::time::timeout(ASSEMBLY, all).await.is_err() {
                tracing::warn!("some bindings are still being configured after {ASSEMBLY:?}: until then their calls fail");
            }
            bindings.publish(next, &older);
        });
    }

    /// The chains of the bindings that name a plugin.
    pub fn naming(&self, plugin: &str) -> Vec<Arc<Chain>> {
        let current = self.current();
        let chains = current.iter().flat_map(|bound| bound.chains());
        chains
            .filter(|chain| chain.names(plugin))
            .cloned()
            .collect()
    }

    fn publish(&self, next: Arc<Bound>, older: &OlderBuilds) {
        let refused = next
            .chains()
            .iter()
            .filter(|chain| is_refused(chain))
            .count();
        let serving = self.pending().is_none();
        if refused > 0 && serving {
            tracing::error!(
                hint = "the reasons are above; mend them, and the file is taken up",
                "{refused} of the new bindings cannot serve: all bindings stay as they were"
            );
            return;
        }
        let before = self.current();
        let gone = |chain: &&Arc<Chain>| !next.chains().iter().any(|next| Arc::ptr_eq(next, chain));
        let chains = before.iter().flat_map(|before| before.chains());
        chains.filter(gone).for_each(|chain| older.forget(chain));
        let count = next.table().bindings().len();
        self.active.store(count > 0, Ordering::Release);
        self.current.store(Some(next));
        self.ready.send_replace(true);
        tracing::info!("{count} bindings serve");
    }
}

fn is_refused(chain: &Chain) -> bool {
    let snapshot = chain.snapshot();
    let mut states = snapshot.links.iter().map(|link| &link.state);
    states.any(|state| matches!(state, LinkState::Failing(_)))
}

/// What was made of the same binding before.
fn known(before: &Bound, binding: &Binding) -> Option<Arc<Chain>> {
    let table = before.table();
    let index = table.find(binding)?;
    before.chains().get(index).cloned()
}

/// The conf that a binding stands for.
pub fn conf(binding: &Binding) -> Conf {
    Conf {
        route_key: format!("binding#{}#{}", binding.scope, binding.plugin),
        plugins: vec![PluginConf {
            name: binding.plugin.clone(),
            value: binding.config.to_string().into_bytes(),
        }],
    }
}
