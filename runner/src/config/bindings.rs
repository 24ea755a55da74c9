//! `bindings.yaml`: plugins bound to routes, services and consumers. Reads one file, says all its faults at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault::{Fault, Faults};
use super::field::{Context, Field};
use super::keys::known;
use super::yaml::{self, Kind, Node};

/// One plugin with one configuration, and where it applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// The plugin's name.
    pub plugin: String,
    /// Its configuration: a JSON object.
    pub config: serde_json::Value,
    /// Where it applies.
    pub scope: Scope,
    /// At which of the gateway's two request hooks it runs.
    pub at: At,
    /// Its line in the file.
    pub line: usize,
}

/// What a request must belong to, for a binding to apply. `None`: whatever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// Id of the gateway's route.
    pub route: Option<String>,
    /// Id of the gateway's service.
    pub service: Option<String>,
    /// Name of the consumer.
    pub consumer: Option<String>,
}

/// One of the gateway's two request hooks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum At {
    /// Before the gateway's own plugins (APISIX: ext-plugin-pre-req).
    #[default]
    Pre,
    /// After the gateway's own plugins (APISIX: ext-plugin-post-req).
    Post,
}

impl fmt::Display for Scope {
    /// `route r1, consumer anna`; `everything` without any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("route", &self.route),
            ("service", &self.service),
            ("consumer", &self.consumer),
        ];
        let mut separator = "";
        for (name, id) in parts {
            if let Some(id) = id {
                write!(f, "{separator}{name} {id}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() {
            f.write_str("everything")?;
        }
        Ok(())
    }
}

const KEYS: [&str; 5] = ["plugin", "config", "enabled", "scope", "at"];
const SCOPES: [&str; 3] = ["route", "service", "consumer"];

/// Reads the bindings of a file; those with `enabled: false` are left out.
///
/// # Errors
/// All faults at once. A file that is not there is one.
pub fn bindings(file: &Path) -> Result<Vec<Binding>, Faults> {
    let whole = |message: String| {
        Faults::new(vec![Fault {
            file: Some(file.to_owned()),
            position: None,
            message,
        }])
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| whole(format!("cannot read the bindings: {error}")))?;
    read(file, &text, &|name| std::env::var_os(name))
}

pub(super) fn read(
    file: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<Binding>, Faults> {
    let root = yaml::parse(text).map_err(|(position, message)| {
        Faults::new(vec![Fault {
            file: Some(file.to_owned()),
            position: Some(position),
            message,
        }])
    })?;
    let context = Context {
        file,
        env,
        faults: RefCell::default(),
        places: RefCell::default(),
    };
    let mut found = Vec::new();
    if let Some(root) = root.filter(|root| !root.is_null()) {
        for (_, node, _) in known(&root, None, ["bindings"].into_iter(), &context) {
            found = all(node, &context);
        }
    }
    let faults = context.faults.into_inner();
    if faults.is_empty() {
        return Ok(found);
    }
    Err(Faults::new(faults))
}

fn all(node: &Node, context: &Context<'_>) -> Vec<Binding> {
    let Kind::List(items) = &node.kind else {
        let found = node.described();
        context.fault(node.at, format!("`bindings` must be a list, not {found}"));
        return Vec::new();
    };
    let mut seen: BTreeMap<(String, Scope, At), usize> = BTreeMap::new();
    let mut bindings = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let Some((binding, enabled)) = one(index, item, context) else {
            continue;
        };
        if !enabled {
            continue;
        }
        let key = (binding.plugin.clone(), binding.scope.clone(), binding.at);
        if let Some(first) = seen.insert(key, binding.line) {
            let (plugin, scope) = (&binding.plugin, &binding.scope);
            context.fault(
                item.at,
                format!("`{plugin}` is bound twice to {scope}, first in line {first}"),
            );
        }
        bindings.push(binding);
    }
    bindings
}

fn one(index: usize, item: &Node, context: &Context<'_>) -> Option<(Binding, bool)> {
    let name = format!("bindings[{index}]");
    let faults = context.faults.borrow().len();
    let mut plugin = None;
    let mut enabled = true;
    let mut binding = Binding {
        plugin: String::new(),
        config: serde_json::json!({}),
        scope: Scope::default(),
        at: At::default(),
        line: item.at.line,
    };
    for (key, node, place) in known(item, Some(&name), KEYS.into_iter(), context) {
        let field = Field {
            name: format!("{name}.{key}"),
            node,
            context,
        };
        match KEYS[place] {
            "plugin" => plugin = field.text(),
            "config" => binding.config = config(&field).unwrap_or_default(),
            "enabled" => enabled = field.flag().unwrap_or_default(),
            "at" => binding.at = field.named().unwrap_or_default(),
            _ => binding.scope = scope(&field),
        }
    }
    let is_whole = context.faults.borrow().len() == faults;
    match plugin {
        Some(plugin) if is_whole => Some((Binding { plugin, ..binding }, enabled)),
        None if is_whole => {
            context.fault(item.at, format!("`{name}` names no `plugin`"));
            None
        }
        _ => None,
    }
}

fn config(field: &Field<'_>) -> Option<serde_json::Value> {
    match field.node.kind {
        Kind::Map(_) => field.json(),
        _ => field.refuse(format!("must be a mapping, not {}", field.node.described())),
    }
}

fn scope(field: &Field<'_>) -> Scope {
    let mut scope = Scope::default();
    let parts = known(
        field.node,
        Some(&field.name),
        SCOPES.into_iter(),
        field.context,
    );
    for (key, node, place) in parts {
        let part = Field {
            name: format!("{}.{key}", field.name),
            node,
            context: field.context,
        };
        // An id may look like a number.
        let id = part.id();
        match SCOPES[place] {
            "route" => scope.route = id,
            "service" => scope.service = id,
            _ => scope.consumer = id,
        }
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Binding>, String> {
        let env = |name: &str| (name == "KEY").then(|| "from-env".into());
        super::read(Path::new("b.yaml"), text, &env).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_binding_has_a_plugin_and_may_have_all_else() {
        let text = "
bindings:
  - plugin: a
  - plugin: b
    config: {key: $env.KEY, list: [1, 2]}
    scope: {route: 7, service: s, consumer: anna}
    at: post
    enabled: true
  - plugin: c
    enabled: false
";
        let bindings = read(text).unwrap();
        assert_eq!(bindings.len(), 2);
        assert_eq!(bindings[0].config, serde_json::json!({}));
        assert_eq!(bindings[0].scope.to_string(), "everything");
        assert_eq!((bindings[0].at, bindings[0].line), (At::Pre, 3));
        assert_eq!(bindings[1].config["key"], "from-env");
        assert_eq!(bindings[1].at, At::Post);
        assert_eq!(
            bindings[1].scope.to_string(),
            "route 7, service s, consumer anna"
        );
    }

    #[test]
    fn a_file_without_bindings_has_none() {
        for text in ["", "# nothing", "bindings:", "bindings: []"] {
            assert_eq!(read(text).unwrap(), []);
        }
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_places() {
        let text = "
bindings:
  - plguin: a
  - plugin: b
    at: during
    scope: {rout: 1}
  - plugin: c
    config: 5
  - config: {}
  - plugin: d
    scope: {route: 1}
  - plugin: d
    scope: {route: '1'}
  - plugin: d
    at: post
    scope: {route: 1}
";
        let wanted = "\
b.yaml:3:5: unknown key `plguin` in `bindings[0]`; did you mean `plugin`?
b.yaml:5:9: `bindings[1].at` is `during`; it must be pre or post
b.yaml:6:13: unknown key `rout` in `bindings[1].scope`; did you mean `route`?
b.yaml:8:13: `bindings[2].config` must be a mapping, not a number
b.yaml:9:5: `bindings[3]` names no `plugin`
b.yaml:12:5: `d` is bound twice to route 1, first in line 10";
        assert_eq!(read(text).unwrap_err(), wanted);
    }

    #[test]
    fn ten_thousand_bindings_are_read() {
        let one =
            |n| format!("  - plugin: p\n    scope: {{route: r{n}}}\n    config: {{a: 1, b: 2}}\n");
        let text: String = (0..10_000).map(one).collect();
        assert_eq!(read(&format!("bindings:\n{text}")).unwrap().len(), 10_000);
    }
}
