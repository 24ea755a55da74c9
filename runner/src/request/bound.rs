//! The plugins that bindings add to a chain: which, with what, in which order. Configures nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use plugin_api::abi::numbers::phase;
use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use super::answers::{Asked, Wanted};
use super::bindings::{Level, Table, Target};
use super::chain::{Link, LinkState, Snapshot};
use super::failures;
use super::hook::Hook;
use crate::config::OnFailure;
use crate::plugins::generation::Generation;

/// The gateway's variable with the id of the route that a call belongs to.
pub const ROUTE: &[u8] = b"route_id";
/// The same of its service.
pub const SERVICE: &[u8] = b"service_id";
/// The gateway's variable with the consumer that it has authenticated itself.
pub const CONSUMER: &[u8] = b"consumer_name";

/// Plans kept at once: one for each route and service that is called.
const PLANS: usize = 16_384;

/// The bindings at one moment, each with what serves it: a call takes it once and keeps it. It never changes; a change makes
/// another one.
#[derive(Debug)]
pub struct Bound {
    all: Arc<All>,
    /// What was planned with it.
    plans: Cache<Key, Arc<Snapshot>>,
    uses_route: bool,
    uses_service: bool,
    uses_consumer: bool,
}

/// The bindings, each with what serves it.
#[derive(Debug)]
struct All {
    table: Arc<Table>,
    /// As many as bindings.
    links: Vec<Link>,
    plugins: HashMap<String, Served>,
}

/// What serves a plugin that is bound.
#[derive(Debug, Default)]
struct Served {
    /// One, or none: the bindings of a plugin move together.
    generations: Vec<Arc<Generation>>,
    on_failure: OnFailure,
}

/// What a plan was made for. With another `version`, the call's own chain is another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    version: u64,
    token: u32,
    hook: Hook,
    route: Option<Box<[u8]>>,
    service: Option<Box<[u8]>>,
}

/// The same, borrowed.
#[derive(Debug, Clone, Copy, Hash)]
struct KeyRef<'a> {
    version: u64,
    token: u32,
    hook: Hook,
    route: Option<&'a [u8]>,
    service: Option<&'a [u8]>,
}

impl Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.version == key.version
            && self.token == key.token
            && self.hook == key.hook
            && self.route == key.route.as_deref()
            && self.service == key.service.as_deref()
    }
}

impl Bound {
    /// `links`: one for each binding of the table.
    pub fn new(table: Arc<Table>, links: Vec<Link>) -> Self {
        let mut plugins: HashMap<String, Served> = HashMap::new();
        for link in &links {
            let served = plugins.entry(link.name.clone()).or_default();
            served.on_failure = link.on_failure;
            for generation in link.generations() {
                let is_known = |known: &Arc<Generation>| known.number == generation.number;
                if !served.generations.iter().any(is_known) {
                    served.generations.push(Arc::clone(generation));
                }
            }
        }
        Self {
            uses_route: table.uses(|scope| &scope.route),
            uses_service: table.uses(|scope| &scope.service),
            uses_consumer: table.uses(|scope| &scope.consumer),
            all: Arc::new(All {
                table,
                links,
                plugins,
            }),
            plans: Cache::new(PLANS),
        }
    }

    /// The bindings.
    pub fn table(&self) -> &Arc<Table> {
        &self.all.table
    }

    /// What serves each of them.
    pub fn links(&self) -> &[Link] {
        &self.all.links
    }

    /// Forgets what was planned with chains that have changed, so that nothing keeps their old builds.
    pub fn forget_plans(&self) {
        self.plans.clear();
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

    /// What a call runs: `own`, the snapshot of its own chain, and the plugins that are bound to what it belongs to.
    pub fn plan<'a>(
        &self,
        own: &Snapshot,
        hook: Hook,
        answer: impl Fn(Asked<'static>) -> Option<&'a [u8]>,
    ) -> Arc<Snapshot> {
        let id =
            |used: bool, name| answer(Asked::Variable(name)).filter(|id| used && !id.is_empty());
        let key = KeyRef {
            version: own.version,
            token: own.token,
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
            own.token,
            &own.route_key,
            self.links_of(own, hook, target),
        ));
        let owned = Key {
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
    fn links_of(&self, own: &Snapshot, hook: Hook, target: Target<'_>) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        let bound = self.bound_links(own, hook, target);
        let mut own = own.links.clone().into_iter().peekable();
        for bound in bound {
            let before = |link: &Link| priority(link) >= priority(&bound);
            links.extend(std::iter::from_fn(|| own.next_if(before)));
            links.push(bound);
        }
        links.extend(own);
        mark_resolvable(&mut links, hook);
        links
    }

    /// Highest priority first, then by name.
    fn bound_links(&self, own: &Snapshot, hook: Hook, target: Target<'_>) -> Vec<Link> {
        let table = &self.all.table;
        let winners = table.winners(target, hook);
        let to_consumers: BTreeSet<&str> = table.bound_to_consumers(target, hook).collect();
        let plugins: BTreeSet<&str> = winners
            .keys()
            .copied()
            .chain(to_consumers.iter().copied())
            .collect();
        let is_own = |plugin: &str| own.links.iter().any(|link| link.name == plugin);
        let plugins = plugins.into_iter().filter(|plugin| !is_own(plugin));
        let links = plugins.map(|plugin| {
            let won = winners.get(plugin);
            let served = self.all.plugins.get(plugin);
            let base = won.and_then(|won| self.all.links.get(won.index));
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
            Link {
                name: plugin.to_owned(),
                state: base.map_or(LinkState::Unbound, |link| link.state.clone()),
                on_failure: served.map(|it| it.on_failure).unwrap_or_default(),
                scoped,
            }
        });
        let mut links: Vec<Link> = links.collect();
        links.sort_by_key(|link| -i64::from(priority(link)));
        links
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
    pub fn find(&self, consumer: &[u8]) -> Option<&LinkState> {
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
        self.all.links.get(won.index).map(|link| &link.state)
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
