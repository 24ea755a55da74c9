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

#[cfg(test)]
mod tests {
    use plugin_api::{Configuration, testing};

    use super::*;

    #[test]
    fn it_answers_with_the_body_of_the_conf() {
        let say = testing::conf::<Say>(r#"{"body": "hello"}"#).unwrap();
        let outcome = say.access(testing::Request::get("/x"));
        let answer = outcome.answer().unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("X-Resp-A6-Runner").unwrap(), "Rust");
        assert_eq!(answer.body(), "hello");
    }

    #[test]
    fn without_a_body_the_request_passes() {
        for conf in ["", "{}", r#"{"body": ""}"#] {
            let say = testing::conf::<Say>(conf).unwrap();
            assert!(say.access(testing::Request::get("/x")).continues());
        }
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["body"]["type"], "string");
        assert_eq!(schema["properties"].as_object().unwrap().len(), 1);
    }
}
