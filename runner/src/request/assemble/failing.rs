//! What a link of a chain becomes when the newest build cannot have it: it stays on an older one, or its calls fail. Says
//! which, and why.

use std::sync::Arc;

use crate::config::Config;
use crate::plugins::generation::Generation;
use crate::plugins::registry::Unserved;
use crate::request::chain::LinkState;
use crate::request::conf::Conf;

/// Nothing serves the plugin: its calls fail, and somebody is told why.
pub(super) fn unserved_link(
    conf: &Conf,
    name: &str,
    unserved: &Unserved,
    config: &Config,
) -> LinkState {
    let (cause, hint) = match unserved {
        Unserved::Unknown if !config.plugins.wants(name) => (
            format!("plugin `{name}` is not enabled"),
            "see `plugins.enabled` and `plugins.disabled` in the configuration".to_owned(),
        ),
        Unserved::Unknown => (
            format!("no library offers plugin `{name}`"),
            "put its library into the plugins folder".to_owned(),
        ),
        Unserved::NotChosen { chosen, offered } => (
            format!("plugin `{name}` shall be served by {chosen}, which does not offer it"),
            format!(
                "put that file into the plugins folder, or change plugins.files.{name}: there is {}",
                offered.join(" and ")
            ),
        ),
        Unserved::Ambiguous(files) => (
            format!(
                "{} offer plugin `{name}`, and none has served before",
                files.join(" and ")
            ),
            format!("remove all but one, or name it in the configuration: plugins.files.{name}"),
        ),
    };
    tracing::error!(
        route_key = conf.route_key,
        hint,
        "{cause}: calls of this route are answered with an error"
    );
    LinkState::Failing(cause.into())
}

/// A conf that the new generation refuses stays on the old one; without one its calls fail.
pub(super) fn refused_link(
    conf: &Conf,
    generation: &Generation,
    before: Option<&LinkState>,
    error: &str,
) -> LinkState {
    let (plugin, version) = (generation.name(), &generation.about.version);
    let route_key = &conf.route_key;
    if let Some(LinkState::Ready(prepared)) = before {
        let old = prepared.generation();
        tracing::warn!(
            plugin,
            route_key,
            generation = generation.number,
            "{plugin} {version} refused the conf of this route: {error}; generation {} ({}) goes on serving it",
            old.number,
            old.about.version
        );
        return LinkState::Ready(Arc::clone(prepared));
    }
    tracing::error!(
        plugin,
        route_key,
        generation = generation.number,
        "{plugin} {version} refused the conf of this route: {error}; its calls are answered with an error until the conf is mended"
    );
    LinkState::Failing(format!("plugin `{plugin}` refused its conf: {error}").into())
}
