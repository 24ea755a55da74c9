//! Answers with a text from the conf.
#![forbid(unsafe_code)]

use plugin_api::{Next, Plugin, Request, Result, config, plugin};

/// `{"body": "hello"}`; without a body the request passes.
#[config]
pub struct Config {
    /// Body of the answer; empty: no answer, the request passes.
    #[serde(default)]
    body: String,
}

/// The plugin.
#[derive(Default)]
pub struct Say;

#[plugin]
impl Plugin for Say {
    type Config = Config;

    fn access(&self, config: &Config, _: &mut Request<'_>) -> Result<Next> {
        if config.body.is_empty() {
            return Ok(Next::CONTINUE);
        }
        Next::respond(200)
            .header("X-Resp-A6-Runner", "Rust")
            .body(config.body.as_str())
            .into()
    }
}
