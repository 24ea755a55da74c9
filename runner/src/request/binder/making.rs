//! Configures the confs of bindings, side by side. Puts nothing in place.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::config::Binding;
use crate::request::assemble::Assembly;
use crate::request::bindings::Table;
use crate::request::bound::Bound;
use crate::request::chain::{Link, LinkState};
use crate::request::conf::{Conf, PluginConf};
use crate::request::heritage;

/// Bindings on their way to serve.
pub(super) struct Making<'a> {
    assembly: &'a Arc<Assembly>,
    table: &'a Table,
    /// As many as bindings; `None` while it is being made.
    states: Vec<Option<LinkState>>,
    jobs: JoinSet<(usize, Option<LinkState>)>,
}

impl<'a> Making<'a> {
    /// Begins with the bindings of these plugins; the others stay as they were `before`.
    pub(super) fn begin(
        assembly: &'a Arc<Assembly>,
        table: &'a Table,
        before: Option<&Bound>,
        which: impl Fn(&str) -> bool,
    ) -> Self {
        let (mut states, mut jobs) = (Vec::new(), JoinSet::new());
        for (index, binding) in table.bindings().iter().enumerate() {
            let known = before.and_then(|before| known(before, table, index));
            if !which(&binding.plugin) {
                states.push(known);
                continue;
            }
            states.push(None);
            let (assembly, conf) = (Arc::clone(assembly), Arc::new(conf(binding)));
            jobs.spawn(async move { (index, assembly.bound_link(&conf, known).await) });
        }
        Self {
            assembly,
            table,
            states,
            jobs,
        }
    }

    /// Whether all were made in time.
    pub(super) async fn wait(&mut self, until: Instant) -> bool {
        loop {
            match timeout_at(until, self.jobs.join_next()).await {
                Ok(Some(Ok((index, state)))) => self.states[index] = state,
                // A panic of the runner's: what it was to make stays unmade.
                Ok(Some(Err(_))) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// However long it takes.
    pub(super) async fn wait_for_all(&mut self) {
        while let Some(made) = self.jobs.join_next().await {
            if let Ok((index, state)) = made {
                self.states[index] = state;
            }
        }
    }

    /// What was made takes over the state of what served before it.
    pub(super) async fn settle(&self) {
        let made = self.states.iter().zip(self.table.bindings());
        let heirs = made.filter_map(|(state, binding)| {
            let state = state.as_ref()?;
            self.assembly.heir(&conf(binding), 0, state)
        });
        heritage::settle_all(heirs.collect()).await;
    }

    /// What each binding is served by; the calls of one that is not made yet fail.
    pub(super) fn links(&self) -> Vec<Link> {
        let made = self.states.iter().zip(self.table.bindings());
        let links = made.map(|(state, Binding { plugin, .. })| Link {
            name: plugin.clone(),
            state: state.clone().unwrap_or_else(|| {
                let reason = format!("a binding of plugin `{plugin}` is still being configured");
                LinkState::Failing(reason.into())
            }),
            on_failure: self.assembly.on_failure(plugin),
            scoped: None,
        });
        links.collect()
    }
}

/// What the same binding was served by.
fn known(before: &Bound, table: &Table, index: usize) -> Option<LinkState> {
    let place = match std::ptr::eq(&**before.table(), table) {
        true => index,
        false => before.table().find(table.bindings().get(index)?)?,
    };
    Some(before.links().get(place)?.state.clone())
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
