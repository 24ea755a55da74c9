//! Turns bots away, by their User-Agent. Behaves as Kong's plugin of that name, with patterns of its own.
#![forbid(unsafe_code)]

mod bots;

use plugin_api::serde_json::json;
use plugin_api::{ConfContext, Error, Next, Plugin, Request, Result, config, plugin};
use quick_cache::sync::Cache;
use regex::bytes::{Regex, RegexSet};

/// Verdicts that a conf remembers.
const REMEMBERED: usize = 10_000;
/// A longer User-Agent is judged each time: clients choose it, and may not choose how much memory we take.
const LONGEST_REMEMBERED: usize = 512;

/// `{"allow": ["^my-crawler/"], "deny": ["^curl/"]}`; every key may be left out. Expressions in the syntax of the
/// `regex` crate: no look-around and no back-references.
#[config]
pub struct Config {
    /// Who matches one of these is let in, whatever else matches.
    #[serde(default)]
    allow: Vec<String>,
    /// Who matches one of these is turned away, as those of the built-in list are.
    #[serde(default)]
    deny: Vec<String>,
}

/// The configuration, with its expressions compiled.
pub struct Prepared {
    allow: RegexSet,
    deny: RegexSet,
    /// Whether to turn a User-Agent away.
    verdicts: Cache<Box<[u8]>, bool>,
}

impl Prepared {
    fn turned_away(&self, agent: &[u8]) -> bool {
        if let Some(verdict) = self.verdicts.get(agent) {
            return verdict;
        }
        let verdict = self.judge(agent.trim_ascii());
        if agent.len() <= LONGEST_REMEMBERED {
            self.verdicts.insert(agent.into(), verdict);
        }
        verdict
    }

    fn judge(&self, agent: &[u8]) -> bool {
        !self.allow.is_match(agent) && (self.deny.is_match(agent) || bots::is_bot(agent))
    }
}

/// The plugin.
#[derive(Default)]
pub struct BotDetection;

#[plugin(priority = 2500)]
impl Plugin for BotDetection {
    type Config = Config;
    type Prepared = Prepared;

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        Ok(Prepared {
            allow: expressions("allow", &config.allow)?,
            deny: expressions("deny", &config.deny)?,
            verdicts: Cache::new(REMEMBERED),
        })
    }

    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let mut agents = request.header_values("user-agent");
        let (agent, another) = (agents.next(), agents.next());
        drop(agents);
        if another.is_some() {
            return answer(400, "Only one User-Agent header allowed");
        }
        match agent {
            Some(agent) if prepared.turned_away(agent.as_bytes()) => answer(403, "Forbidden"),
            _ => Ok(Next::CONTINUE),
        }
    }
}

fn answer(status: u16, message: &str) -> Result<Next> {
    let answer = Next::respond(status).json(&json!({ "message": message }))?;
    answer.into()
}

fn expressions(key: &str, texts: &[String]) -> Result<RegexSet> {
    for (index, text) in texts.iter().enumerate() {
        // One by one, so that the fault names its place.
        Regex::new(text).map_err(|error| {
            let error = error.to_string();
            let reason = error
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            Error::new(format_args!("`{key}[{index}]`: {reason}"))
        })?;
    }
    Ok(RegexSet::new(texts)?)
}

#[cfg(test)]
mod tests {
    use plugin_api::testing;

    use super::*;

    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0";
    const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

    #[track_caller]
    fn check(conf: &str, agents: &[&str], status: u16) {
        let plugin = testing::conf::<BotDetection>(conf).unwrap();
        let request = agents
            .iter()
            .fold(testing::Request::get("/"), |request, agent| {
                request.header("User-Agent", agent)
            });
        // Twice: the second verdict is a remembered one.
        for _ in 0..2 {
            let outcome = plugin.access(request.clone());
            let found = outcome.answer().map_or(200, |answer| answer.status());
            assert_eq!(found, status, "{conf} {agents:?}");
        }
    }

    #[test]
    fn verdicts() {
        for (conf, agents, status) in [
            ("{}", &[][..], 200),
            ("{}", &[""], 200),
            ("{}", &[BROWSER], 200),
            ("{}", &[BOT], 403),
            ("{}", &[BROWSER, BROWSER], 400),
            (r#"{"allow": ["Googlebot"]}"#, &[BOT], 200),
            (r#"{"allow": ["googlebot"]}"#, &[BOT], 403),
            (r#"{"allow": ["(?i)googlebot"]}"#, &[BOT], 200),
            (r#"{"deny": ["Firefox/1[0-9]{2}\\."]}"#, &[BROWSER], 403),
            (
                r#"{"deny": ["Firefox"], "allow": ["Linux"]}"#,
                &[BROWSER],
                200,
            ),
            (r#"{"deny": ["^curl"]}"#, &["  curl/8"], 403),
            (r#"{"deny": ["^curl"]}"#, &["xcurl/8"], 200),
        ] {
            check(conf, agents, status);
        }
    }

    #[test]
    fn an_expression_that_cannot_be_compiled_is_refused_with_its_place() {
        let refused = testing::conf::<BotDetection>(r#"{"deny": ["a", "("]}"#).unwrap_err();
        assert_eq!(refused.to_string(), "`deny[1]`: unclosed group");
    }

    #[test]
    fn a_long_user_agent_is_judged_and_not_remembered() {
        let plugin = BotDetection.configure(
            Config {
                allow: vec![],
                deny: vec![],
            },
            &ConfContext::default(),
        );
        let prepared = plugin.unwrap();
        let long = [b"x".repeat(LONGEST_REMEMBERED), b" Googlebot/2.1".to_vec()].concat();
        assert!(prepared.turned_away(&long));
        assert!(prepared.turned_away(b"Googlebot"));
        assert_eq!(prepared.verdicts.len(), 1);
    }
}
