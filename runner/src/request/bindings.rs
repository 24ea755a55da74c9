//! Which binding wins: for each plugin the most specific one. Knows scopes and nothing of plugin code; `explain` uses it
//! as calls do. What it costs to ask depends on the plugins that are bound, not on how many bindings there are.

use std::collections::{BTreeMap, HashMap};

use super::hook::Hook;
use crate::config::{At, Binding, Scope};

/// How specific a binding is: smaller is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(usize);

/// Whether route, service and consumer are named; the most specific first.
const LEVELS: [(bool, bool, bool); 8] = [
    (true, true, true),
    (true, false, true),
    (false, true, true),
    (true, true, false),
    (false, false, true),
    (true, false, false),
    (false, true, false),
    (false, false, false),
];
const NAMES: [&str; 8] = [
    "route+service+consumer",
    "route+consumer",
    "service+consumer",
    "route+service",
    "consumer",
    "route",
    "service",
    "everything",
];

impl Level {
    /// For people.
    pub fn name(self) -> &'static str {
        NAMES[self.0]
    }

    fn of(scope: &Scope) -> Self {
        let named = (
            scope.route.is_some(),
            scope.service.is_some(),
            scope.consumer.is_some(),
        );
        let level = LEVELS.iter().position(|level| *level == named);
        Self(level.unwrap_or(LEVELS.len() - 1))
    }
}

/// What a call belongs to. `None`: to nothing of that kind, or it is not known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// Id of its route.
    pub route: Option<&'a [u8]>,
    /// Id of its service.
    pub service: Option<&'a [u8]>,
    /// Name of its consumer.
    pub consumer: Option<&'a [u8]>,
}

/// A binding that applies, and how specific it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Won {
    /// Its place among the bindings.
    pub index: usize,
    /// How specific it is.
    pub level: Level,
}

/// All bindings, by scope.
#[derive(Debug, Default)]
pub struct Table {
    bindings: Vec<Binding>,
    by_scope: HashMap<Box<[u8]>, Vec<usize>>,
    /// Plugins with bindings to consumers, by the rest of the scope.
    to_consumers: HashMap<Box<[u8]>, Vec<(String, At)>>,
}

impl Table {
    /// Sorts bindings by what they apply to.
    pub fn new(bindings: Vec<Binding>) -> Self {
        let mut table = Self::default();
        for (index, binding) in bindings.iter().enumerate() {
            let scope = &binding.scope;
            let part = |part: &Option<String>| part.as_ref().map(|part| part.as_bytes().to_vec());
            let (route, service) = (part(&scope.route), part(&scope.service));
            let consumer = part(&scope.consumer);
            let (route, service) = (route.as_deref(), service.as_deref());
            let key = key(route, service, consumer.as_deref());
            table.by_scope.entry(key.into()).or_default().push(index);
            if consumer.is_some() {
                let plugins = table
                    .to_consumers
                    .entry(self::key(route, service, None).into());
                let plugins = plugins.or_default();
                let plugin = (binding.plugin.clone(), binding.at);
                if !plugins.contains(&plugin) {
                    plugins.push(plugin);
                }
            }
        }
        for bucket in table.by_scope.values_mut() {
            bucket.sort_by_key(|index| bindings[*index].at);
        }
        table.bindings = bindings;
        table
    }

    /// The bindings, in the order of the file.
    pub fn bindings(&self) -> &[Binding] {
        &self.bindings
    }

    /// The place of a binding that says the same, wherever it stands.
    pub fn find(&self, binding: &Binding) -> Option<usize> {
        let Scope {
            route,
            service,
            consumer,
        } = &binding.scope;
        let part = |part: &'_ Option<String>| part.as_ref().map(|part| part.as_bytes().to_vec());
        let (route, service, consumer) = (part(route), part(service), part(consumer));
        let key = key(route.as_deref(), service.as_deref(), consumer.as_deref());
        let same = |index: &usize| {
            let known = &self.bindings[*index];
            known.plugin == binding.plugin
                && known.config == binding.config
                && known.at == binding.at
        };
        self.by_scope
            .get(&*key)?
            .iter()
            .copied()
            .find(|index| same(index))
    }

    /// Whether a scope names this: then calls have to find out what they belong to.
    pub fn uses(&self, part: impl Fn(&Scope) -> &Option<String>) -> bool {
        self.bindings
            .iter()
            .any(|binding| part(&binding.scope).is_some())
    }

    /// For each plugin, by name, the binding that applies.
    pub fn winners(&self, target: Target<'_>, hook: Hook) -> BTreeMap<&str, Won> {
        let mut winners = BTreeMap::new();
        for won in self.applying(target, hook) {
            let plugin = self.bindings[won.index].plugin.as_str();
            winners.entry(plugin).or_insert(won);
        }
        winners
    }

    /// All bindings that apply, the most specific first.
    pub fn applying(&self, target: Target<'_>, hook: Hook) -> Vec<Won> {
        let mut all = Vec::new();
        for level in (0..LEVELS.len()).map(Level) {
            all.extend(self.at_level(level, target, hook));
        }
        all
    }

    /// The binding of a plugin to a consumer, if there is one.
    pub fn of_consumer(&self, plugin: &str, target: Target<'_>, hook: Hook) -> Option<Won> {
        let levels = (0..LEVELS.len()).filter(|level| LEVELS[*level].2);
        let mut found = levels.flat_map(|level| self.at_level(Level(level), target, hook));
        found.find(|won| self.bindings[won.index].plugin == plugin)
    }

    /// The plugins that have bindings to some consumer of this route and service.
    pub fn bound_to_consumers(&self, target: Target<'_>, hook: Hook) -> impl Iterator<Item = &str> {
        let Target { route, service, .. } = target;
        let mut rests = vec![
            (route, service),
            (route, None),
            (None, service),
            (None, None),
        ];
        rests.dedup();
        let plugins = rests.into_iter().flat_map(move |(route, service)| {
            let plugins = self.to_consumers.get(&*key(route, service, None));
            plugins.map(Vec::as_slice).unwrap_or_default()
        });
        plugins
            .filter(move |(_, at)| runs_at(*at, hook))
            .map(|(plugin, _)| plugin.as_str())
    }

    fn at_level<'t>(
        &'t self,
        level: Level,
        target: Target<'_>,
        hook: Hook,
    ) -> impl Iterator<Item = Won> + 't {
        let (route, service, consumer) = LEVELS[level.0];
        let known = target.route.is_some() >= route
            && target.service.is_some() >= service
            && target.consumer.is_some() >= consumer;
        let bucket = known.then(|| {
            let key = key(
                target.route.filter(|_| route),
                target.service.filter(|_| service),
                target.consumer.filter(|_| consumer),
            );
            self.by_scope.get(&*key)
        });
        let bucket = bucket.flatten().into_iter().flatten();
        bucket
            .filter(move |index| runs_at(self.bindings[**index].at, hook))
            .map(move |index| Won {
                index: *index,
                level,
            })
    }
}

impl Won {
    /// The level of a binding by itself.
    pub fn level_of(binding: &Binding) -> Level {
        Level::of(&binding.scope)
    }
}

/// On a response there is one hook only, for both.
/// Whether a binding applies to a call of this route and service at this hook if the consumer is the right one.
pub fn may_apply(binding: &Binding, target: Target<'_>, hook: Hook) -> bool {
    let fits = |wanted: &Option<String>, is: Option<&[u8]>| {
        wanted
            .as_ref()
            .is_none_or(|wanted| is == Some(wanted.as_bytes()))
    };
    runs_at(binding.at, hook)
        && fits(&binding.scope.route, target.route)
        && fits(&binding.scope.service, target.service)
}

fn runs_at(at: At, hook: Hook) -> bool {
    match hook {
        Hook::PreRequest => at == At::Pre,
        Hook::PostRequest => at == At::Post,
        Hook::Response => true,
    }
}

/// A scope as one text: no two scopes have the same.
fn key(route: Option<&[u8]>, service: Option<&[u8]>, consumer: Option<&[u8]>) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    for part in [route, service, consumer] {
        match part {
            None => key.push(0),
            Some(part) => {
                key.push(1);
                key.extend((part.len() as u32).to_le_bytes());
                key.extend(part);
            }
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(plugin: &str, scope: [&str; 3], at: At) -> Binding {
        let part = |part: &str| (!part.is_empty()).then(|| part.to_owned());
        Binding {
            plugin: plugin.to_owned(),
            config: serde_json::json!({}),
            scope: Scope {
                route: part(scope[0]),
                service: part(scope[1]),
                consumer: part(scope[2]),
            },
            at,
            line: 1,
        }
    }

    const TARGET: Target<'_> = Target {
        route: Some(b"r"),
        service: Some(b"s"),
        consumer: Some(b"c"),
    };

    /// The most specific first.
    const SCOPES: [[&str; 3]; 8] = [
        ["r", "s", "c"],
        ["r", "", "c"],
        ["", "s", "c"],
        ["r", "s", ""],
        ["", "", "c"],
        ["r", "", ""],
        ["", "s", ""],
        ["", "", ""],
    ];

    #[test]
    fn each_level_beats_all_below_it() {
        for first in 0..SCOPES.len() {
            let below = SCOPES[first..].iter().rev();
            let table = Table::new(below.map(|scope| bound("p", *scope, At::Pre)).collect());
            let won = table.winners(TARGET, Hook::PreRequest)["p"];
            let scope = &table.bindings()[won.index].scope;
            assert_eq!(scope.route.as_deref().unwrap_or(""), SCOPES[first][0]);
            assert_eq!(scope.service.as_deref().unwrap_or(""), SCOPES[first][1]);
            assert_eq!(scope.consumer.as_deref().unwrap_or(""), SCOPES[first][2]);
            assert_eq!(won.level.name(), NAMES[first]);
            assert_eq!(Won::level_of(&table.bindings()[won.index]), won.level);
        }
    }

    #[test]
    fn a_binding_to_something_else_does_not_apply() {
        for scope in [["x", "s", "c"], ["", "x", ""], ["", "", "x"]] {
            let table = Table::new(vec![bound("p", scope, At::Pre)]);
            assert!(table.winners(TARGET, Hook::PreRequest).is_empty());
        }
        let table = Table::new(vec![bound("p", ["r", "", ""], At::Pre)]);
        assert!(
            table
                .winners(Target::default(), Hook::PreRequest)
                .is_empty()
        );
    }

    #[test]
    fn pre_and_post_run_at_their_hook_and_both_on_a_response() {
        let table = Table::new(vec![
            bound("a", ["", "", ""], At::Post),
            bound("b", ["", "", ""], At::Pre),
            bound("a", ["r", "", ""], At::Pre),
        ]);
        let names = |hook| {
            let winners = table.winners(TARGET, hook);
            winners
                .into_iter()
                .map(|(name, won)| (name.to_owned(), won.index))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(Hook::PreRequest), [("a".into(), 2), ("b".into(), 1)]);
        assert_eq!(names(Hook::PostRequest), [("a".into(), 0)]);
        assert_eq!(names(Hook::Response), [("a".into(), 2), ("b".into(), 1)]);
    }

    #[test]
    fn plugins_bound_to_consumers_are_known_before_the_consumer_is() {
        let table = Table::new(vec![
            bound("a", ["r", "", "c"], At::Pre),
            bound("b", ["x", "", "c"], At::Pre),
            bound("c", ["", "", "other"], At::Pre),
        ]);
        let unknown = Target {
            consumer: None,
            ..TARGET
        };
        let bound: Vec<_> = table
            .bound_to_consumers(unknown, Hook::PreRequest)
            .collect();
        assert_eq!(bound, ["a", "c"]);
        assert_eq!(
            table
                .of_consumer("a", TARGET, Hook::PreRequest)
                .unwrap()
                .index,
            0
        );
        assert!(table.of_consumer("c", TARGET, Hook::PreRequest).is_none());
        assert!(table.of_consumer("a", unknown, Hook::PreRequest).is_none());
    }
}
