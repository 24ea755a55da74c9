//! The bindings that serve now, and how others take their place: a new file as a whole, a new build plugin by plugin. A
//! call meets one build of a plugin, whichever of its bindings apply: so these move together, or stay together.

mod making;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::making::Making;
pub use self::making::conf;
use super::assemble::{Assembler, Assembly};
use super::bindings::Table;
use super::bound::Bound;
use super::chain::{Link, LinkState};
use crate::config::Binding;

/// How long confs of bindings may be configured before somebody is told; at the start, before the others serve without
/// them.
const ASSEMBLY: Duration = Duration::from_secs(10);

/// The bindings of a worker.
#[derive(Debug)]
pub struct Bindings {
    /// Whether there are any: all that a call asks if there are none.
    active: AtomicBool,
    current: ArcSwapOption<Bound>,
    /// True once the first bindings were configured or refused.
    ready: watch::Sender<bool>,
    /// Those that shall serve: not before the libraries are known.
    wanted: Mutex<Option<Arc<Table>>>,
    /// Held while others are put in place; never over author code.
    placing: Mutex<()>,
}

/// What an attempt to put others in place came to.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// They serve, or are refused.
    Done,
    /// Something changed meanwhile.
    Again,
}

impl Default for Bindings {
    fn default() -> Self {
        Self {
            active: AtomicBool::new(false),
            current: ArcSwapOption::empty(),
            ready: watch::Sender::new(false),
            wanted: Mutex::default(),
            placing: Mutex::default(),
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
        *lock(&self.wanted) = Some(Arc::new(Table::new(bindings)));
    }

    /// Configures the bindings that were taken last, and makes them serve. If one of them is refused, those that serve go
    /// on; at the start its calls fail.
    pub fn assemble(self: &Arc<Self>, assembler: &Assembler) {
        let Some(table) = lock(&self.wanted).clone() else {
            self.ready.send_replace(true);
            return;
        };
        let (bindings, assembly) = (Arc::clone(self), assembler.assembly());
        let first = self.pending().is_some();
        drop(assembler.spawn(async move {
            while bindings.replace(&assembly, &table, first).await == Attempt::Again {}
        }));
    }

    /// Moves the bindings of a plugin to what serves it now.
    pub fn follow(self: &Arc<Self>, plugin: &str, assembler: &Assembler) -> JoinHandle<()> {
        let (bindings, assembly) = (Arc::clone(self), assembler.assembly());
        let plugin = plugin.to_owned();
        assembler.spawn(async move {
            while bindings.move_one(&assembly, &plugin).await == Attempt::Again {}
        })
    }

    async fn replace(&self, assembly: &Arc<Assembly>, table: &Arc<Table>, first: bool) -> Attempt {
        let serving = serving(assembly, table);
        let before = self.current();
        let mut making = Making::begin(assembly, table, before.as_deref(), |_| true);
        if !making.wait(Instant::now() + ASSEMBLY).await {
            let meanwhile = if first {
                "their calls fail"
            } else {
                "all bindings stay as they were"
            };
            tracing::warn!(
                "some bindings are still being configured after {ASSEMBLY:?}: until then {meanwhile}"
            );
            if first {
                let placing = lock(&self.placing);
                self.put(assembly, table, making.links());
                drop(placing);
            }
            making.wait_for_all().await;
        }
        let links = making.links();
        if !first && !is_acceptable(&links, before.as_deref()) {
            return Attempt::Done;
        }
        making.settle().await;
        let _placing = lock(&self.placing);
        if !self.is_wanted(table) {
            return Attempt::Done;
        }
        if serving != self::serving(assembly, table) {
            return Attempt::Again;
        }
        let count = links.len();
        self.put(assembly, table, links);
        if count > 0 || before.is_some() {
            tracing::info!("{count} bindings serve");
        }
        Attempt::Done
    }

    async fn move_one(&self, assembly: &Arc<Assembly>, plugin: &str) -> Attempt {
        // The first ones look at what serves when they are put in place.
        let Some(before) = self.current() else {
            return Attempt::Done;
        };
        let table = before.table();
        let bindings = table.bindings().iter().enumerate();
        let its = bindings.filter(|(_, binding)| binding.plugin == plugin);
        let its: Vec<usize> = its.map(|(index, _)| index).collect();
        if its.is_empty() {
            return Attempt::Done;
        }
        let serving = assembly.serving(plugin);
        let mut making = Making::begin(assembly, table, Some(&before), |name| name == plugin);
        making.wait_for_all().await;
        let made = making.links();
        let is_mixed = generations(&made)
            .get(plugin)
            .is_some_and(|it| it.len() > 1);
        if !is_mixed {
            making.settle().await;
        }
        let _placing = lock(&self.placing);
        let current = self.current().unwrap_or_else(|| Arc::clone(&before));
        if !Arc::ptr_eq(current.table(), table) || assembly.serving(plugin) != serving {
            return Attempt::Again;
        }
        if is_mixed {
            log_stay(plugin, its.len(), &before);
            // The next worker is to serve all of them so.
            for index in its {
                let conf = making::conf(&table.bindings()[index]);
                assembly.note_bound(&conf, &current.links()[index]);
            }
            return Attempt::Done;
        }
        // Those of other plugins may have moved meanwhile.
        let mut links = current.links().to_vec();
        for index in its {
            links[index].clone_from(&made[index]);
        }
        self.put(assembly, table, links);
        Attempt::Done
    }

    fn is_wanted(&self, table: &Arc<Table>) -> bool {
        let wanted = lock(&self.wanted);
        wanted.as_ref().is_some_and(|it| Arc::ptr_eq(it, table))
    }

    fn put(&self, assembly: &Assembly, table: &Arc<Table>, links: Vec<Link>) {
        let before = self.current();
        let before = before.iter().flat_map(|before| before.table().bindings());
        before
            .filter(|binding| table.find(binding).is_none())
            .for_each(|gone| assembly.forget_bound(&making::conf(gone)));
        // The older build of one that fails may still be on its way: then the others wait for it.
        let failing = links.iter().filter(|link| is_failing(link));
        let failing: BTreeSet<&str> = failing.map(|link| link.name.as_str()).collect();
        for (binding, link) in table.bindings().iter().zip(&links) {
            if !failing.contains(link.name.as_str()) {
                assembly.note_bound(&making::conf(binding), link);
            }
        }
        self.active.store(!links.is_empty(), Ordering::Release);
        let bound = Bound::new(Arc::clone(table), links);
        self.current.store(Some(Arc::new(bound)));
        self.ready.send_replace(true);
    }
}

fn is_failing(link: &Link) -> bool {
    matches!(link.state, LinkState::Failing(_))
}

/// The generations behind the bindings of each plugin.
fn generations(links: &[Link]) -> BTreeMap<&str, BTreeSet<u64>> {
    let mut generations: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for link in links {
        if let LinkState::Ready(prepared) = &link.state {
            let its = generations.entry(&link.name).or_default();
            its.insert(prepared.generation().number);
        }
    }
    generations
}

/// Whether a new file may serve: no binding has become worse, and no plugin would run on two builds.
fn is_acceptable(links: &[Link], before: Option<&Bound>) -> bool {
    let failed = before.map(Bound::links).unwrap_or_default().iter();
    let failed = failed.filter(|link| is_failing(link));
    let failed: BTreeSet<&str> = failed.map(|link| link.name.as_str()).collect();
    let refused = links.iter().filter(|link| is_failing(link));
    let refused = refused.filter(|link| !failed.contains(link.name.as_str()));
    let refused = refused.count();
    if refused > 0 {
        tracing::error!(
            hint = "the reasons are above; mend them, and the file is taken up",
            "{refused} of the new bindings cannot serve: all bindings stay as they were"
        );
        return false;
    }
    let mixed = generations(links);
    let mixed = mixed.into_iter().find(|(_, its)| its.len() > 1);
    if let Some((plugin, _)) = mixed {
        tracing::error!(
            plugin,
            hint = "the reasons are above; mend them, and the file is taken up",
            "some of its bindings are refused by the build that serves it: all bindings stay as they were"
        );
    }
    mixed.is_none()
}

fn log_stay(plugin: &str, count: usize, before: &Bound) {
    let old = generations(before.links());
    let old = old.get(plugin).and_then(|its| its.first());
    tracing::warn!(
        plugin,
        hint = "a call never meets two builds of a plugin: mend the bindings that are refused, or the new build",
        "all {count} of its bindings stay on generation {}, as the new build refuses some of them",
        old.copied().unwrap_or_default()
    );
}

/// The generation that serves each plugin of a table.
fn serving(assembly: &Assembly, table: &Table) -> BTreeMap<String, Option<u64>> {
    let plugins = table.bindings().iter().map(|binding| &binding.plugin);
    let plugins: BTreeSet<&String> = plugins.collect();
    let serving = |plugin: &String| (plugin.clone(), assembly.serving(plugin));
    plugins.into_iter().map(serving).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
