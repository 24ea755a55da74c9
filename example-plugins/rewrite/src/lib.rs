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
