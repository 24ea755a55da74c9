//! The plugins that bindings add to a chain: which, with what, in which order. Configures nothing: each binding is a
//! chain of one conf, which is assembled as all chains are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use plugin_api::abi::numbers::phase;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::answers::{Asked, Wanted};
use super::bindings::{Level, Table, Target};
use super::chain::{Chain, Link, LinkState, Snapshot, epoch};
use super::failures;
use super::hook::Hook;
use crate::config::OnFailure;
use crate::plugins::generation::Generation;

/// The gateway's variables that say what a call belongs to.
const ROUTE: &[u8] = b"route_id";
const SERVICE: &[u8] = b"service_id";
/// The gateway's variable with the consumer that it has authenticated itself.
pub const CONSUMER: &[u8] = b"consumer_name";

/// Plans kept at once: one for each route and service that is called.
const PLANS: usize = 16_384;

/// All bindings, and what was planned with them.
#[derive(Debug)]
pub struct Bound {
    all: Arc<All>,
    plans: Cache<Key, Arc<Snapshot>>,
    uses_route: bool,
    uses_service: bool,
    uses_consumer: bool,
}

/// The bindings, each with its conf.
#[derive(Debug)]
struct All {
    table: Table,
    /// As many as bindings.
    chains: Vec<Arc<Chain>>,
    /// Looked up anew for each epoch.
    facts: ArcSwap<Facts>,
}

/// What serves each plugin that is bound.
#[derive(Debug, Default)]
struct Facts {
    epoch: u64,
    plugins: HashMap<String, Served>,
}

/// What serves a plugin.
#[derive(Debug, Default)]
struct Served {
    /// One build, but for confs that a new one has refused.
    generations: Vec<Arc<Generation>>,
    on_failure: OnFailure,
}

/// What a plan was made for. `epoch` and `version` make plans from before a change useless.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    epoch: u64,
    version: u64,
    token: u32,
    hook: Hook,
    route: Option<Box<[u8]>>,
    service: Option<Box<[u8]>>,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, Hash)]
struct KeyRef<'a> {
    epoch: u64,
    version: u64,
    token: u32,
    hook: Hook,
    route: Option<&'a [u8]>,
    service: Option<&'a [u8]>,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.epoch == key.epoch
            && self.version == key.version
            && self.token == key.token
            && self.hook == key.hook
            && self.route == key.route.as_deref()
            && self.service == key.service.as_deref()
    }
}

impl Bound {
    /// `chains`: one for each binding of the table.
    pub fn new(table: Table, chains: Vec<Arc<Chain>>) -> Self {
        Self {
            uses_route: table.uses(|scope| &scope.route),
            uses_service: table.uses(|scope| &scope.service),
            uses_consumer: table.uses(|scope| &scope.consumer),
            all: Arc::new(All {
                table,
                chains,
                facts: ArcSwap::default(),
            }),
            plans: Cache::new(PLANS),
        }
    }

    /// The bindings.
    pub fn table(&self) -> &Table {
        &self.all.table
    }

    /// Their confs.
    pub fn chains(&self) -> &[Arc<Chain>] {
        &self.all.chains
    }

    /// What a call has to find out before it is known which bindings apply.
    pub fn scope_variables(&self) -> Vec<Wanted> {
        let wanted = [(self.uses_route, ROUTE), (self.uses_service, SERVICE)];
        variables(&wanted)
    }

    /// What a call has to find out besides: before its own plugins, APISIX knows no consumer yet.
    pub fn consumer_variable(&self, hook: Hook) -> Vec<Wanted> {
        let late = self.uses_consumer && hook != Hook::PreRequest;
        variables(&[(late, CONSUMER)])
    }

    /// What a call runs: its own chain, and the plugins that are bound to what it belongs to.
    pub fn plan<'a>(
        &self,
        chain: &Chain,
        hook: Hook,
        answer: impl Fn(Asked<'static>) -> Option<&'a [u8]>,
    ) -> Arc<Snapshot> {
        let id =
            |used: bool, name| answer(Asked::Variable(name)).filter(|id| used && !id.is_empty());
        let key = KeyRef {
            epoch: epoch(),
            version: chain.version(),
            token: chain.token,
            hook,
            route: id(self.uses_route, ROUTE),
            service: id(self.uses_service, SERVICE),
        };
        if let Some(plan) = self.plans.get(&key) {
            return plan;
        }
        let target = Target {
            route: key.route,
            service: key.service,
            consumer: None,
        };
        let plan = Arc::new(Snapshot::new(
            chain.token,
            &chain.conf.route_key,
            self.links(chain, hook, target),
        ));
        let owned = Key {
            epoch: key.epoch,
            version: key.version,
            token: key.token,
            hook,
            route: key.route.map(Into::into),
            service: key.service.map(Into::into),
        };
        self.plans.insert(owned, Arc::clone(&plan));
        plan
    }

    /// The route's own plugins keep their order; a bound one comes before the first of them with a lower priority.
    fn links(&self, chain: &Chain, hook: Hook, target: Target<'_>) -> Vec<Link> {
        let mut own = chain.snapshot().links.clone().into_iter().peekable();
        let mut links: Vec<Link> = Vec::new();
        for bound in self.bound_links(chain, hook, target) {
            let before = |link: &Link| priority(link) >= priority(&bound);
            links.extend(std::iter::from_fn(|| own.next_if(before)));
            links.push(bound);
        }
        links.extend(own);
        mark_resolvable(&mut links, hook);
        links
    }

    /// Highest priority first, then by name.
    fn bound_links(&self, chain: &Chain, hook: Hook, target: Target<'_>) -> Vec<Link> {
        let table = &self.all.table;
        let winners = table.winners(target, hook);
        let to_consumers: BTreeSet<&str> = table.bound_to_consumers(target, hook).collect();
        let facts = (!to_consumers.is_empty()).then(|| self.all.facts());
        let plugins: BTreeSet<&str> = winners
            .keys()
            .copied()
            .chain(to_consumers.iter().copied())
            .collect();
        let plugins = plugins.into_iter().filter(|plugin| !chain.names(plugin));
        let links = plugins.map(|plugin| {
            let won = winners.get(plugin);
            let served = facts.as_ref().and_then(|facts| facts.plugins.get(plugin));
            let base = won.and_then(|won| self.all.link(won.index));
            let scoped = to_consumers.contains(plugin).then(|| {
                Arc::new(Scoped {
                    all: Arc::clone(&self.all),
                    plugin: plugin.to_owned(),
                    route: target.route.map(Into::into),
                    service: target.service.map(Into::into),
                    hook,
                    base: won.map(|won| won.level),
                    generations: served.map_or_else(Vec::new, |it| it.generations.clone()),
                    resolvable: true,
                })
            });
            let on_failure = match (&base, served) {
                (Some(base), _) => base.on_failure,
                (None, served) => served.map(|it| it.on_failure).unwrap_or_default(),
            };
            let state = match (base, won) {
                (Some(link), _) => link.state,
                (None, Some(_)) => LinkState::Failing(
                    format!("the binding of plugin `{plugin}` is still being configured").into(),
                ),
                (None, None) => LinkState::Unbound,
            };
            Link {
                name: plugin.to_owned(),
                state,
                on_failure,
                scoped,
            }
        });
        let mut links: Vec<Link> = links.collect();
        links.sort_by_key(|link| -i64::from(priority(link)));
        links
    }
}

impl All {
    fn link(&self, index: usize) -> Option<Link> {
        self.chains.get(index)?.snapshot().links.first().cloned()
    }

    /// Looks at all bindings, once in an epoch.
    fn facts(&self) -> Arc<Facts> {
        let (known, epoch) = (self.facts.load_full(), epoch());
        if known.epoch == epoch && !known.plugins.is_empty() {
            return known;
        }
        let mut plugins: HashMap<String, Served> = HashMap::new();
        let snapshots = self.chains.iter().map(|chain| chain.snapshot());
        for link in snapshots.flat_map(|snapshot| snapshot.links.clone()) {
            let served = plugins.entry(link.name.clone()).or_default();
            served.on_failure = link.on_failure;
            for generation in link.generations() {
                let is_known = |known: &Arc<Generation>| known.number == generation.number;
                if !served.generations.iter().any(is_known) {
                    served.generations.push(Arc::clone(generation));
                }
            }
        }
        let facts = Arc::new(Facts { epoch, plugins });
        self.facts.store(Arc::clone(&facts));
        facts
    }
}

/// A plugin's bindings to consumers, on one route and service.
#[derive(Debug, Clone)]
pub struct Scoped {
    all: Arc<All>,
    plugin: String,
    route: Option<Box<[u8]>>,
    service: Option<Box<[u8]>>,
    hook: Hook,
    /// How specific the binding is that applies to everybody.
    base: Option<Level>,
    generations: Vec<Arc<Generation>>,
    /// Whether somebody may know the consumer where the plugin stands.
    resolvable: bool,
}

impl Scoped {
    /// The binding to this consumer, unless the one for everybody is more specific.
    pub fn find(&self, consumer: &[u8]) -> Option<LinkState> {
        let target = Target {
            route: self.route.as_deref(),
            service: self.service.as_deref(),
            consumer: Some(consumer),
        };
        let won = self
            .all
            .table
            .of_consumer(&self.plugin, target, self.hook)?;
        if self.base.is_some_and(|base| base < won.level) {
            return None;
        }
        let link = self.all.link(won.index);
        Some(link.map_or_else(
            || {
                LinkState::Failing(
                    format!(
                        "a binding of plugin `{}` is still being configured",
                        self.plugin
                    )
                    .into(),
                )
            },
            |link| link.state,
        ))
    }

    /// The builds whose code may run.
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        self.generations.iter()
    }

    /// Says that nobody knows the consumer where the plugin stands.
    pub fn unresolved(&self, phase: u32, plugin: &str, route_key: &str) {
        if self.resolvable || !matches!(phase, phase::ACCESS | phase::HEADER_FILTER) {
            return;
        }
        if let Some(before) = failures().admit(&format!("unresolved {plugin} {route_key}")) {
            tracing::warn!(
                plugin,
                route_key,
                before,
                hint = "put an authentication plugin before it, or bind it with `at: post`",
                "its bindings to consumers cannot be resolved here: no plugin before it authenticates, and the gateway has not yet"
            );
        }
    }
}

/// Before the gateway's own plugins, only an earlier plugin can say who the client is.
fn mark_resolvable(links: &mut [Link], hook: Hook) {
    let mut authenticated = hook != Hook::PreRequest;
    for link in links {
        if let Some(scoped) = &mut link.scoped {
            Arc::make_mut(scoped).resolvable = authenticated;
        }
        authenticated |= link
            .generations()
            .any(|generation| generation.about.authenticates);
    }
}

fn priority(link: &Link) -> i32 {
    link.generations()
        .next()
        .map_or(0, |generation| generation.about.priority)
}

fn variables(wanted: &[(bool, &'static [u8])]) -> Vec<Wanted> {
    let wanted = wanted.iter().filter(|(used, _)| *used);
    wanted
        .map(|(_, name)| Asked::Variable(name).to_wanted())
        .collect()
}
