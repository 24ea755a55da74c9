//! Changes what the upstream gets: path, headers, arguments, body.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use plugin_api::{Next, Plugin, Request, Result, bail, config, plugin};

/// `{"path": "/new", "headers": {"X-Team": "a"}, "args": {"debug": "1"}, "body": "hello"}`
///
/// Every key may be left out; one that is given replaces its default, so `"headers": {}` sets no header.
#[config]
pub struct Config {
    /// Path that the upstream gets: decoded, without a query. Empty: the client's.
    #[serde(default = "path")]
    #[schemars(regex(pattern = "^(/|$)"))]
    path: String,
    /// Headers that the upstream gets, instead of the client's of the same name.
    #[serde(default = "headers")]
    headers: BTreeMap<String, String>,
    /// Arguments that the upstream gets, instead of the client's of the same name.
    #[serde(default = "args")]
    args: BTreeMap<String, String>,
    /// Body that the upstream gets. Empty: the client's.
    #[serde(default)]
    body: String,
}

fn path() -> String {
    "/a6/rust/runner".to_owned()
}

fn headers() -> BTreeMap<String, String> {
    BTreeMap::from([("X-Resp-A6-Runner".to_owned(), "Rust".to_owned())])
}

fn args() -> BTreeMap<String, String> {
    BTreeMap::from([("a6_runner".to_owned(), "Rust".to_owned())])
}

/// The plugin.
#[derive(Default)]
pub struct Rewrite;

#[plugin]
impl Plugin for Rewrite {
    type Config = Config;

    // Said once when the route is configured, instead of at every request.
    fn validate(config: &Config) -> Result<()> {
        if !config.path.is_empty() && !config.path.starts_with('/') {
            bail!("`path`: `{}` does not start with `/`", config.path);
        }
        Ok(())
    }

    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        if !config.path.is_empty() {
            request.set_path(&config.path)?;
        }
        for (name, value) in &config.headers {
            request.set_header(name, value)?;
        }
        for (name, value) in &config.args {
            request.set_arg(name, value)?;
        }
        if !config.body.is_empty() {
            request.set_body(&config.body)?;
        }
        Ok(Next::CONTINUE)
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::{Configuration, testing};

    use super::*;

    #[track_caller]
    fn rewritten(conf: &str) -> testing::Outcome {
        let rewrite = testing::conf::<Rewrite>(conf).unwrap();
        let outcome = rewrite.access(testing::Request::get("/x?y=2").header("X-In", "v"));
        assert!(outcome.continues(), "{outcome:?}");
        outcome
    }

    #[test]
    fn without_a_conf_it_marks_the_request() {
        let outcome = rewritten("{}");
        assert_eq!(outcome.path(), "/a6/rust/runner");
        assert_eq!(outcome.header("X-Resp-A6-Runner").unwrap(), "Rust");
        assert_eq!(outcome.arg("a6_runner").unwrap(), "Rust");
        assert!(outcome.body().is_none());
    }

    #[test]
    fn what_it_does_not_name_stays() {
        let outcome = rewritten("{}");
        assert_eq!(outcome.header("x-in").unwrap(), "v");
        assert_eq!(outcome.arg("y").unwrap(), "2");
    }

    #[test]
    fn every_part_is_changed_by_the_conf() {
        let outcome = rewritten(
            r#"{"path": "/new", "headers": {"X-In": "w"}, "args": {"y": "3"}, "body": "hello"}"#,
        );
        assert_eq!(outcome.path(), "/new");
        assert_eq!(outcome.header("x-in").unwrap(), "w");
        assert!(outcome.header("X-Resp-A6-Runner").is_none());
        assert!(outcome.arg_values("y").eq(["3"]));
        assert!(outcome.arg("a6_runner").is_none());
        assert_eq!(outcome.body().unwrap(), "hello");
    }

    #[test]
    fn an_empty_path_keeps_the_clients() {
        assert_eq!(rewritten(r#"{"path": ""}"#).path(), "/x");
    }

    #[test]
    fn a_path_that_would_change_the_upstreams_host_is_refused() {
        let refused = testing::conf::<Rewrite>(r#"{"path": "@evil/"}"#).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`path`: `@evil/` does not start with `/`"
        );
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["path"]["default"], "/a6/rust/runner");
        assert_eq!(schema["properties"]["args"]["default"]["a6_runner"], "Rust");
        assert_eq!(schema["properties"].as_object().unwrap().len(), 4);
    }
}
