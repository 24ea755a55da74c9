//! Answers every request itself: status, headers and body come from the conf.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use plugin_api::{Next, Plugin, Request, Result, config, plugin};

/// `{"status": 403, "headers": {"X-Why": "closed"}, "body": "denied"}`; every key may be left out.
#[config]
pub struct Config {
    /// Status of the answer.
    #[serde(default = "ok")]
    #[schemars(range(min = 200, max = 599))]
    status: u16,
    /// Headers of the answer.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Body of the answer.
    #[serde(default = "hello")]
    body: String,
}

fn ok() -> u16 {
    200
}

fn hello() -> String {
    "Hello, Rust Runner of APISIX".to_owned()
}

/// The plugin.
#[derive(Default)]
pub struct Stop;

#[plugin]
impl Plugin for Stop {
    type Config = Config;

    fn access(&self, config: &Config, _: &mut Request<'_>) -> Result<Next> {
        let answer = Next::respond(config.status).header("X-Resp-A6-Runner", "Rust");
        let answer = config
            .headers
            .iter()
            .fold(answer, |answer, (name, value)| answer.header(name, value));
        answer.body(config.body.as_str()).into()
    }
}
