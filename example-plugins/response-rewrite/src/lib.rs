//! Changes what the client gets: status, headers, and the body as a whole or by regular expressions.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::BTreeMap;

use plugin_api::{
    ConfContext, Error, Next, Plugin, Response, Result, bail, config, plugin, tracing,
};
use regex::bytes::Regex;

/// `{"status": 202, "headers": {"X-New": "1"}, "body": "whole"}` or
/// `{"filters": [{"regex": "colou?r", "scope": "global", "replace": "$0!"}]}`; every key may be left out.
#[config]
pub struct Config {
    /// Status that the client gets; 0: the upstream's.
    #[serde(default)]
    #[schemars(range(max = 599))]
    status: u16,
    /// Headers that the client gets, instead of the upstream's of the same name.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Body that the client gets; empty: the upstream's. Not used when there are filters.
    #[serde(default)]
    body: String,
    /// What to replace in the upstream's body, one after the other.
    #[serde(default)]
    filters: Vec<Filter>,
}

/// One replacement.
#[config]
pub struct Filter {
    /// What to look for, in the syntax of the `regex` crate, which is that of Go's `regexp`.
    regex: String,
    /// How often to replace it.
    #[serde(default)]
    scope: Scope,
    /// What to put in its place: `$1` and `${name}` stand for groups, `$$` for a dollar sign.
    #[serde(default)]
    replace: String,
}

/// How often a filter replaces.
#[config]
#[derive(Default)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The first match.
    #[default]
    Once,
    /// All matches.
    Global,
}

/// The configuration, with its expressions compiled.
pub struct Prepared {
    config: Config,
    expressions: Vec<Regex>,
}

impl Prepared {
    /// The body with all filters applied; `None` when none of them matches.
    fn filtered(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut changed = None;
        for (filter, expression) in self.config.filters.iter().zip(&self.expressions) {
            let limit = match filter.scope {
                Scope::Once => 1,
                Scope::Global => 0,
            };
            let current = changed.as_deref().unwrap_or(body);
            let replaced = expression.replacen(current, limit, filter.replace.as_bytes());
            if let Cow::Owned(replaced) = replaced {
                changed = Some(replaced);
            }
        }
        changed
    }

    fn change_body(&self, response: &mut Response<'_>) -> Result<()> {
        if self.expressions.is_empty() {
            if self.config.body.is_empty() {
                return Ok(());
            }
            // The text of the conf is not compressed, whatever the upstream's body was.
            response.remove_header("Content-Encoding")?;
            return response.set_body(&self.config.body);
        }
        if let Some(encoding) = response.header("Content-Encoding") {
            tracing::warn!(%encoding, "the filters cannot read an encoded body: left as it is");
            return Ok(());
        }
        let Some(body) = response.body()? else {
            return Ok(());
        };
        match self.filtered(body.as_bytes()) {
            Some(changed) => response.set_body(changed),
            None => Ok(()),
        }
    }
}

/// The plugin.
#[derive(Default)]
pub struct ResponseRewrite;

#[plugin]
impl Plugin for ResponseRewrite {
    type Config = Config;
    type Prepared = Prepared;

    fn validate(config: &Config) -> Result<()> {
        match config.status {
            0 | 200..=599 => Ok(()),
            status => bail!("`status`: {status} is not 200 to 599 (or 0, to keep the upstream's)"),
        }
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        let compile = |(index, filter): (usize, &Filter)| {
            Regex::new(&filter.regex).map_err(|error| not_compiled(index, &error))
        };
        let expressions = config
            .filters
            .iter()
            .enumerate()
            .map(compile)
            .collect::<Result<_>>()?;
        Ok(Prepared {
            config,
            expressions,
        })
    }

    // The body is not needed for most confs, and asking for it costs a round trip. A `body_filter` would have it
    // fetched for all of them; `response.body()` asks only where there are filters.
    fn header_filter(&self, prepared: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        response.set_header("X-Resp-A6-Runner", "Rust")?;
        if prepared.config.status != 0 {
            response.set_status(prepared.config.status)?;
        }
        for (name, value) in &prepared.config.headers {
            response.set_header(name, value)?;
        }
        prepared.change_body(response)?;
        Ok(Next::CONTINUE)
    }
}

/// The last line of the crate's message has the reason; the lines before draw the expression.
fn not_compiled(index: usize, error: &regex::Error) -> Error {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default();
    Error::new(reason.trim_start_matches("error: "))
        .context(format_args!("`filters[{index}].regex`"))
}

#[cfg(test)]
mod tests {
    use plugin_api::{Configuration, testing};

    use super::*;

    fn upstream() -> testing::Response {
        testing::Response::new(201)
            .header("Content-Type", "text/plain")
            .header("X-Upstream", "u1")
            .body("hello from upstream, hello\n")
    }

    #[track_caller]
    fn rewritten(conf: &str, response: testing::Response) -> testing::Outcome {
        let rewrite = testing::conf::<ResponseRewrite>(conf).unwrap();
        let outcome = rewrite.response(response);
        assert!(outcome.continues(), "{outcome:?}");
        outcome
    }

    #[track_caller]
    fn refused(conf: &str) -> String {
        let refused = testing::conf::<ResponseRewrite>(conf).unwrap_err();
        refused.to_string()
    }

    #[test]
    fn without_a_conf_only_its_header_is_new_and_nothing_is_asked() {
        let outcome = rewritten("{}", upstream());
        assert_eq!(outcome.status(), 201);
        assert_eq!(outcome.header("X-Resp-A6-Runner").unwrap(), "Rust");
        assert_eq!(outcome.header("X-Upstream").unwrap(), "u1");
        assert!(outcome.body().is_none());
        assert!(outcome.undeclared_questions().is_empty());
    }

    #[test]
    fn status_headers_and_body_come_from_the_conf() {
        let conf = r#"{"status": 202, "headers": {"x-upstream": "1"}, "body": "replaced"}"#;
        let outcome = rewritten(conf, upstream().header("Content-Encoding", "gzip"));
        assert_eq!(outcome.status(), 202);
        assert!(outcome.header_values("X-Upstream").eq(["1"]));
        assert_eq!(outcome.body().unwrap(), "replaced");
        assert!(outcome.header("Content-Encoding").is_none());
        assert_eq!(outcome.header("Content-Type").unwrap(), "text/plain");
        assert!(outcome.undeclared_questions().is_empty());
    }

    #[test]
    fn a_filter_replaces_the_first_match_or_all() {
        for (scope, body) in [
            (r#""replace": "bye""#, "bye from upstream, hello\n"),
            (
                r#""scope": "once", "replace": "bye""#,
                "bye from upstream, hello\n",
            ),
            (
                r#""scope": "global", "replace": "bye""#,
                "bye from upstream, bye\n",
            ),
            (
                r#""scope": "global", "replace": "<$1>""#,
                "<e> from upstream, <e>\n",
            ),
        ] {
            let conf = format!(r#"{{"filters": [{{"regex": "h(.)llo", {scope}}}]}}"#);
            let outcome = rewritten(&conf, upstream());
            assert_eq!(outcome.body().unwrap(), body, "{scope}");
            assert_eq!(outcome.undeclared_questions(), ["response_body"]);
        }
    }

    #[test]
    fn filters_work_one_after_the_other_on_bytes_of_any_kind() {
        let conf = r#"{"filters": [{"regex": "a", "replace": "b"}, {"regex": "bb", "replace": "c"}], "body": "unused"}"#;
        let outcome = rewritten(conf, testing::Response::new(200).body(b"\xffab"));
        assert_eq!(outcome.body().unwrap().as_bytes(), b"\xffc");
    }

    #[test]
    fn a_body_without_a_match_an_encoded_one_and_none_at_all_stay_as_they_are() {
        let conf = r#"{"filters": [{"regex": "nowhere", "replace": "x"}]}"#;
        assert!(rewritten(conf, upstream()).body().is_none());
        let no_body = testing::Response::new(204);
        assert!(rewritten(conf, no_body).body().is_none());
        let encoded = upstream().header("Content-Encoding", "br");
        let outcome = rewritten(r#"{"filters": [{"regex": "hello"}]}"#, encoded);
        assert!(outcome.body().is_none());
        assert_eq!(outcome.events()[0].level, tracing::Level::WARN);
    }

    #[test]
    fn a_bad_conf_is_refused_with_its_place() {
        let conf = r#"{"filters": [{"regex": "a"}, {"regex": "(b"}]}"#;
        assert_eq!(refused(conf), "`filters[1].regex`: unclosed group");
        let conf = r#"{"filters": [{"regex": "a", "scope": "twice"}]}"#;
        assert!(refused(conf).starts_with("at `filters[0].scope`: unknown variant `twice`"));
        assert!(refused(r#"{"status": 101}"#).starts_with("`status`: 101 is not 200 to 599"));
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"].as_object().unwrap().len(), 4);
        let filter = &schema["$defs"]["Filter"];
        assert_eq!(filter["required"][0], "regex");
        assert_eq!(filter["properties"].as_object().unwrap().len(), 3);
    }
}
