//! Tests only: declares what it needs from the gateway, and answers with what it got.
#![forbid(unsafe_code)]

use plugin_api::{Next, Plugin, Request, Response, Result, Value, config, plugin};

/// `{}`.
#[config]
pub struct Config {
    /// One more variable, which is not declared.
    #[serde(default)]
    also: Option<String>,
    /// Asks twice for it.
    #[serde(default)]
    twice: bool,
}

/// The plugin.
#[derive(Default)]
pub struct Asking;

// Tests write another version over this one.
#[plugin(min_runner = "0.1.0")]
impl Plugin for Asking {
    type Config = Config;

    #[needs(variables("remote_port", "no_such"), request_body)]
    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        let mut text = String::new();
        for name in ["remote_port", "no_such"] {
            text += &shown(name, request.variable(name)?);
        }
        text += &shown("body", request.body()?);
        if let Some(name) = &config.also {
            text += &shown(name, request.variable(name)?);
            if config.twice {
                text += &shown(name, request.variable(name)?);
            }
        }
        Next::respond(200).body(text).into()
    }

    fn body_filter(&self, _: &Config, response: &mut Response<'_>) -> Result<Next> {
        let body = response
            .body()?
            .map(|body| body.to_string_lossy().to_uppercase());
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            response.set_body(body)?;
        }
        Ok(Next::CONTINUE)
    }
}

fn shown(name: &str, value: Option<Value<'_>>) -> String {
    format!(
        "{name}={}\n",
        value.map_or("absent".into(), Value::to_string_lossy)
    )
}
