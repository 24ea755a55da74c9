//! Answers every request itself: status, headers and body come from the conf.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use plugin_api::{Next, Plugin, Request, Result, bail, config, plugin};

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

    // Said once when the route is configured, instead of at every request.
    fn validate(config: &Config) -> Result<()> {
        match config.status {
            200..=599 => Ok(()),
            status => bail!("`status`: {status} is not 200 to 599"),
        }
    }

    fn access(&self, config: &Config, _: &mut Request<'_>) -> Result<Next> {
        let answer = Next::respond(config.status).header("X-Resp-A6-Runner", "Rust");
        let answer = config
            .headers
            .iter()
            .fold(answer, |answer, (name, value)| answer.header(name, value));
        answer.body(config.body.as_str()).into()
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::{Configuration, testing};

    use super::*;

    #[track_caller]
    fn stopped(conf: &str) -> testing::Outcome {
        let stop = testing::conf::<Stop>(conf).unwrap();
        stop.access(testing::Request::get("/x"))
    }

    #[test]
    fn without_a_conf_it_says_hello() {
        for conf in ["", "{}"] {
            let outcome = stopped(conf);
            let answer = outcome.answer().unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.header("x-resp-a6-runner").unwrap(), "Rust");
            assert_eq!(answer.body(), "Hello, Rust Runner of APISIX");
        }
    }

    #[test]
    fn status_headers_and_body_come_from_the_conf() {
        let outcome =
            stopped(r#"{"status": 403, "headers": {"X-Why": "closed"}, "body": "denied"}"#);
        let answer = outcome.answer().unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.header("X-Why").unwrap(), "closed");
        assert_eq!(answer.header("X-Resp-A6-Runner").unwrap(), "Rust");
        assert_eq!(answer.body(), "denied");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_name() {
        let refused = testing::conf::<Stop>(r#"{"bdoy": "x"}"#).unwrap_err();
        assert!(refused.to_string().ends_with("did you mean `body`?"));
    }

    #[test]
    fn a_status_that_the_gateway_cannot_send_is_refused() {
        let refused = testing::conf::<Stop>(r#"{"status": 199}"#).unwrap_err();
        assert_eq!(refused.to_string(), "`status`: 199 is not 200 to 599");
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["status"]["default"], 200);
        assert_eq!(schema["properties"]["status"]["maximum"], 599);
        assert_eq!(schema["properties"].as_object().unwrap().len(), 3);
    }
}
