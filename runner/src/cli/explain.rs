//! `explain`: which plugins run for a request, in which order, and which binding each runs with. Needs no runner; the
//! answer comes from the same code that calls use.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, ValueEnum};

use super::Place;
use crate::call::Belongs;
use crate::config::{Binding, Config};
use crate::plugins::metadata::About;
use crate::request::bindings::{Table, Target, Won};
use crate::request::hook::Hook;
use crate::supervise::shelf::{Shelf, Standing};

/// Say which binding wins for each plugin, in the order in which the plugins run
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    pub belongs: Belongs,
    /// The hook that the request comes from: before or after the gateway's own plugins
    #[arg(long, value_enum, default_value_t = AtHook::Pre)]
    pub at: AtHook,
    /// A plugin that the route names in its own ext-plugin conf: it replaces its bindings (may be given again, in the order of the conf)
    #[arg(long = "own", value_name = "PLUGIN")]
    pub own: Vec<String>,
    #[command(flatten)]
    pub place: Place,
}

/// One of the gateway's hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AtHook {
    /// ext-plugin-pre-req
    Pre,
    /// ext-plugin-post-req
    Post,
    /// ext-plugin-post-resp
    Response,
}

impl AtHook {
    fn hook(self) -> Hook {
        match self {
            Self::Pre => Hook::PreRequest,
            Self::Post => Hook::PostRequest,
            Self::Response => Hook::Response,
        }
    }
}

/// A plugin that runs.
struct Step<'a> {
    won: Won,
    binding: &'a Binding,
    about: Option<&'a About>,
    /// Bindings of the same plugin that it beats.
    beaten: Vec<Won>,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut config = self.place.load()?;
        self.belongs.name_bindings(&mut config)?;
        let shelf = Shelf::read(&config)?;
        super::say(&self.text(&config, &shelf)?);
        Ok(())
    }

    fn text(&self, config: &Config, shelf: &Shelf) -> anyhow::Result<String> {
        let table = Table::new(config.read_bindings()?);
        let file = config.bindings_file();
        let file = file.map_or_else(|| "no file".into(), |file| file.display().to_string());
        let mut lines = vec![format!("{} bindings from {file}", table.bindings().len())];
        let steps = self.steps(&table, shelf, self.target());
        // Before the gateway authenticates, nobody knows the consumer in rewrite.
        let nobody = Target {
            consumer: None,
            ..self.target()
        };
        let early = self.steps(&table, shelf, nobody);
        for phase in self.phases() {
            let is_early = phase == "rewrite" && self.at == AtHook::Pre;
            let steps = if is_early { &early } else { &steps };
            let steps = steps.iter().filter(|step| step.has(phase));
            lines.extend(steps.map(|step| step.line(phase)));
        }
        if steps.is_empty() {
            lines.push("no binding applies".to_owned());
        }
        lines.extend(steps.iter().filter_map(Step::unserved));
        lines.extend(self.replaced(&table));
        lines.extend(self.early_answers(&steps, shelf));
        lines.extend(self.unresolved(&table, &steps, shelf));
        Ok(lines.join("\n"))
    }

    fn target(&self) -> Target<'_> {
        self.belongs.target()
    }

    /// In the order in which calls run them.
    fn steps<'a>(&self, table: &'a Table, shelf: &'a Shelf, target: Target<'_>) -> Vec<Step<'a>> {
        let applying = table.applying(target, self.at.hook());
        let mut found: BTreeMap<&str, Step<'a>> = BTreeMap::new();
        for won in applying {
            let binding = &table.bindings()[won.index];
            let plugin = binding.plugin.as_str();
            if self.own.iter().any(|own| own == plugin) {
                continue;
            }
            match found.get_mut(plugin) {
                Some(step) => step.beaten.push(won),
                None => {
                    let step = Step {
                        won,
                        binding,
                        about: serving(shelf, plugin),
                        beaten: Vec::new(),
                    };
                    found.insert(plugin, step);
                }
            }
        }
        let mut steps: Vec<_> = found.into_values().collect();
        steps.sort_by_key(|step| -i64::from(step.priority()));
        steps
    }

    fn phases(&self) -> [&'static str; 3] {
        match self.at {
            AtHook::Response => ["header_filter", "body_filter", "log"],
            AtHook::Pre | AtHook::Post => ["rewrite", "access", "log"],
        }
    }

    fn replaced(&self, table: &Table) -> Vec<String> {
        let bound = |own: &&String| table.bindings().iter().any(|it| it.plugin == **own);
        let own = self.own.iter().filter(bound);
        own.map(|own| {
            format!("note: `{own}` stands in the route's own conf, which replaces its bindings")
        })
        .collect()
    }

    /// All `rewrite` run before any `access`.
    fn early_answers(&self, steps: &[Step<'_>], shelf: &Shelf) -> Vec<String> {
        if self.at == AtHook::Response {
            return Vec::new();
        }
        let bound = steps.iter().filter_map(|step| step.about);
        let own = self.own.iter().filter_map(|own| serving(shelf, own));
        let all: Vec<&About> = bound.chain(own).collect();
        let Some(late) = all
            .iter()
            .find(|about| about.authenticates && has(about, "access"))
        else {
            return Vec::new();
        };
        let early = all
            .iter()
            .filter(|about| has(about, "rewrite") && about.name != late.name);
        let warning = |about: &&About| {
            let (early, late) = (&about.name, &late.name);
            format!(
                "warning: an answer that `{early}` gives in rewrite comes before `{late}` authenticates in access"
            )
        };
        early.map(warning).collect()
    }

    /// Before the gateway authenticates, only an earlier plugin can say who the client is.
    fn unresolved(&self, table: &Table, steps: &[Step<'_>], shelf: &Shelf) -> Vec<String> {
        if self.at != AtHook::Pre {
            return Vec::new();
        }
        let to_consumers = table.bound_to_consumers(self.target(), self.at.hook());
        // One that is bound to several consumers is named once; the route's own conf replaces all of its bindings.
        let to_consumers: BTreeSet<&str> = to_consumers
            .filter(|plugin| !self.own.iter().any(|own| own == plugin))
            .collect();
        let authenticated = |plugin: &&str| {
            let place = steps.iter().position(|step| step.binding.plugin == *plugin);
            let before = &steps[..place.unwrap_or(steps.len())];
            before.iter().any(Step::authenticates) || self.own_authenticates(shelf, plugin)
        };
        let unresolved = to_consumers
            .into_iter()
            .filter(|plugin| !authenticated(plugin));
        let warning = |plugin| {
            format!(
                "warning: bindings of `{plugin}` to consumers cannot be resolved: no plugin before it authenticates, \
                 and the gateway has not yet; bind it with `at: post`, or an authentication plugin before it"
            )
        };
        unresolved.map(warning).collect()
    }

    /// Whether one of the route's own plugins authenticates before this one: a bound plugin comes before the first of them
    /// with a lower priority.
    fn own_authenticates(&self, shelf: &Shelf, plugin: &str) -> bool {
        let priority = |name: &str| serving(shelf, name).map_or(0, |about: &About| about.priority);
        let before = self
            .own
            .iter()
            .take_while(|own| priority(own) >= priority(plugin));
        let mut abouts = before.filter_map(|own| serving(shelf, own));
        abouts.any(|about| about.authenticates)
    }
}

/// What the library says that serves a plugin.
fn serving<'a>(shelf: &'a Shelf, plugin: &str) -> Option<&'a About> {
    let offer = shelf.named(plugin)?;
    (offer.state == Standing::Serves).then_some(&offer.about)
}

fn has(about: &About, phase: &str) -> bool {
    about.phases.iter().any(|has| has == phase)
}

impl Step<'_> {
    fn priority(&self) -> i32 {
        self.about.map_or(0, |about| about.priority)
    }

    fn authenticates(&self) -> bool {
        self.about.is_some_and(|about| about.authenticates)
    }

    fn has(&self, phase: &str) -> bool {
        self.about.is_some_and(|about| has(about, phase))
    }

    fn line(&self, phase: &str) -> String {
        let (plugin, priority) = (&self.binding.plugin, self.priority());
        let (line, scope, level) = (
            self.binding.line,
            &self.binding.scope,
            self.won.level.name(),
        );
        let beaten: Vec<_> = self.beaten.iter().map(|won| won.level.name()).collect();
        let why = match beaten.as_slice() {
            [] => "the only one that applies".to_owned(),
            beaten => format!("{level} beats {}", beaten.join(", ")),
        };
        format!("{phase:<13}  {plugin:<20}  {priority:>6}  line {line}: {scope} ({why})")
    }

    fn unserved(&self) -> Option<String> {
        let plugin = &self.binding.plugin;
        self.about.is_none().then(|| {
            format!("warning: no library serves plugin `{plugin}` (line {}): its calls are answered with an error", self.binding.line)
        })
    }
}
