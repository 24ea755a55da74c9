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
    Error::new(reason).context(format_args!("`filters[{index}].regex`"))
}
