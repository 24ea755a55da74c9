//! Measurements only: the small plugin of `cargo xtask bench`. It reads three headers and sets one.
#![forbid(unsafe_code)]

use plugin_api::{Next, Plugin, Request, Result, bail, config, plugin};

/// `{"header": "x-bench"}`
#[config]
pub struct Config {
    /// The header it sets.
    #[serde(default = "header")]
    header: String,
}

fn header() -> String {
    "x-bench".to_owned()
}

/// The plugin.
#[derive(Default)]
pub struct BenchHeaders;

#[plugin]
impl Plugin for BenchHeaders {
    type Config = Config;

    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        let names = ["host", "user-agent", "x-request-id"];
        let [Some(_), Some(_), Some(id)] = names.map(|name| request.header(name)) else {
            bail!("one of {names:?} is missing");
        };
        request.set_header(&config.header, id)?;
        Ok(Next::CONTINUE)
    }
}
