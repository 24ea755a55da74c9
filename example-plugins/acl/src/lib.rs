//! Lets consumers in or keeps them out, by their groups. Behaves as Kong's plugin of that name.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use plugin_api::serde::Deserialize;
use plugin_api::serde_json::json;
use plugin_api::{
    ConfContext, Hook, InitContext, Next, Plugin, Request, Result, bail, config, plugin, tracing,
};

/// `{"allow": ["gold"], "consumers": {"anna": ["gold"]}}`; either `allow` or `deny`.
#[config]
pub struct Config {
    /// Only consumers with one of these groups are let in.
    #[serde(default)]
    allow: Vec<String>,
    /// Consumers with one of these groups are kept out.
    #[serde(default)]
    deny: Vec<String>,
    /// Does not tell the upstream the groups.
    #[serde(default)]
    hide_groups_header: bool,
    /// Groups that an authentication plugin has set count before those of the consumer, also when the client came
    /// with a credential.
    #[serde(default)]
    always_use_authenticated_groups: bool,
    /// The groups of consumers, beside those in `plugins.settings.acl`, which have the same form.
    #[serde(default)]
    consumers: Groups,
}

/// Groups by the name of the consumer.
type Groups = BTreeMap<String, Vec<String>>;

/// `plugins.settings.acl` of the runner's configuration.
#[derive(Default, Deserialize)]
#[serde(crate = "plugin_api::serde", deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    consumers: Groups,
}

/// The plugin.
pub struct Acl {
    consumers: Groups,
}

/// The configuration, with the groups of all consumers.
pub struct Prepared {
    config: Config,
    consumers: Groups,
}

const CONSUMER_GROUPS: &str = "X-Consumer-Groups";
const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

#[plugin(priority = 950)]
impl Plugin for Acl {
    type Config = Config;
    type Prepared = Prepared;

    fn init_worker(context: &InitContext) -> Result<Self> {
        let Settings { consumers } = context.settings()?;
        Ok(Self { consumers })
    }

    fn validate(config: &Config) -> Result<()> {
        match (config.allow.is_empty(), config.deny.is_empty()) {
            (true, true) => bail!("needs at least one group in `allow` or `deny`"),
            (false, false) => bail!("has `allow` and `deny`: only one of them may be given"),
            _ => Ok(()),
        }
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        let mut consumers = self.consumers.clone();
        for (name, groups) in &config.consumers {
            let known = consumers.entry(name.clone()).or_default();
            known.extend(
                groups
                    .iter()
                    .filter(|group| !known.contains(group))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
        Ok(Prepared { config, consumers })
    }

    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let authenticated: Vec<String> = request.groups().map(|group| group.to_string()).collect();
        let authenticated = (!authenticated.is_empty()).then_some(authenticated);
        let credential = request.credential().is_some();
        let Some(consumer) = consumer(request)? else {
            return match authenticated {
                Some(groups) => prepared.decide(request, &groups, AUTHENTICATED_GROUPS),
                None if credential => forbidden(),
                None => unauthorized(),
            };
        };
        let first = !credential || prepared.config.always_use_authenticated_groups;
        match authenticated.filter(|_| first) {
            Some(groups) => prepared.decide(request, &groups, AUTHENTICATED_GROUPS),
            None => {
                let groups = prepared
                    .consumers
                    .get(&consumer)
                    .map_or(&[][..], Vec::as_slice);
                prepared.decide(request, groups, CONSUMER_GROUPS)
            }
        }
    }
}

/// Whom a plugin has authenticated; where the gateway has done that before us, whom it has.
fn consumer(request: &Request<'_>) -> Result<Option<String>> {
    let mut consumer = request.consumer();
    if consumer.is_none() && request.hook() == Hook::PostRequest {
        consumer = request.consumer_name()?;
    }
    Ok(consumer.map(|consumer| consumer.to_string()))
}

impl Prepared {
    fn decide(&self, request: &mut Request<'_>, groups: &[String], header: &str) -> Result<Next> {
        let Config { allow, deny, .. } = &self.config;
        let has_one_of = |wanted: &[String]| wanted.iter().any(|group| groups.contains(group));
        let let_in = if deny.is_empty() {
            has_one_of(allow)
        } else {
            !has_one_of(deny)
        };
        if !let_in {
            return forbidden();
        }
        // What the client itself says of its groups is not for the upstream.
        for header in [CONSUMER_GROUPS, AUTHENTICATED_GROUPS] {
            request.remove_header(header)?;
        }
        if !self.config.hide_groups_header && !groups.is_empty() {
            request.set_header(header, groups.join(", "))?;
        }
        Ok(Next::CONTINUE)
    }
}

fn unauthorized() -> Result<Next> {
    tracing::debug!(
        "nobody is authenticated: an authentication plugin has to come before this one"
    );
    answer(401, "Unauthorized")
}

fn forbidden() -> Result<Next> {
    answer(403, "You cannot consume this service")
}

fn answer(status: u16, message: &str) -> Result<Next> {
    let answer = Next::respond(status).json(&json!({ "message": message }))?;
    answer.into()
}

#[cfg(test)]
mod tests {
    use plugin_api::testing::{self, Outcome};

    use super::*;

    #[track_caller]
    fn asked(conf: &str, request: testing::Request) -> Outcome {
        let settings = json!({ "consumers": { "anna": ["gold", "staff"], "boss": ["admin"] } });
        let acl = testing::Instance::new::<Acl>(&settings).unwrap();
        acl.conf(conf).unwrap().access(request)
    }

    #[track_caller]
    fn check(conf: &str, consumer: Option<&str>, expected: Result<Option<&str>, u16>) {
        let request = testing::Request::get("/").header("X-Consumer-Groups", "forged");
        let request = consumer
            .into_iter()
            .fold(request, |request, name| request.consumer(name));
        let outcome = asked(conf, request);
        let header = outcome
            .header("X-Consumer-Groups")
            .map(|value| value.to_string());
        match expected {
            Ok(groups) => assert_eq!(header.as_deref(), groups, "{conf} {outcome:?}"),
            Err(status) => assert_eq!(outcome.answer().unwrap().status(), status, "{conf}"),
        }
    }

    #[test]
    fn verdicts() {
        for (conf, consumer, expected) in [
            (r#"{"allow": ["gold"]}"#, None, Err(401)),
            (r#"{"deny": ["gold"]}"#, None, Err(401)),
            (
                r#"{"allow": ["gold"]}"#,
                Some("anna"),
                Ok(Some("gold, staff")),
            ),
            (
                r#"{"allow": ["none", "staff"]}"#,
                Some("anna"),
                Ok(Some("gold, staff")),
            ),
            (r#"{"allow": ["gold"]}"#, Some("boss"), Err(403)),
            (r#"{"allow": ["gold"]}"#, Some("nobody"), Err(403)),
            (r#"{"deny": ["gold"]}"#, Some("anna"), Err(403)),
            (r#"{"deny": ["gold"]}"#, Some("boss"), Ok(Some("admin"))),
            (r#"{"deny": ["gold"]}"#, Some("nobody"), Ok(None)),
            (
                r#"{"allow": ["gold"], "hide_groups_header": true}"#,
                Some("anna"),
                Ok(None),
            ),
            (
                r#"{"allow": ["new"], "consumers": {"boss": ["new"]}}"#,
                Some("boss"),
                Ok(Some("admin, new")),
            ),
        ] {
            check(conf, consumer, expected);
        }
    }

    #[test]
    fn a_conf_with_both_lists_or_none_is_refused() {
        for (conf, reason) in [
            ("{}", "needs at least one group in `allow` or `deny`"),
            (
                r#"{"allow": ["a"], "deny": ["b"]}"#,
                "has `allow` and `deny`: only one of them may be given",
            ),
        ] {
            let refused = testing::conf::<Acl>(conf).unwrap_err();
            assert_eq!(refused.to_string(), reason);
        }
    }
}
