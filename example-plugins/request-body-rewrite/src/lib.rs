//! Replaces the body that the upstream gets.
#![forbid(unsafe_code)]

use plugin_api::{Next, Plugin, Request, Result, config, plugin};

/// `{"new_body": "hello"}`; without one the client's body goes on.
#[config]
pub struct Config {
    /// Body that the upstream gets. Empty: the client's.
    #[serde(default)]
    new_body: String,
}

/// The plugin.
#[derive(Default)]
pub struct RequestBodyRewrite;

#[plugin]
impl Plugin for RequestBodyRewrite {
    type Config = Config;

    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        if !config.new_body.is_empty() {
            request.set_body(&config.new_body)?;
        }
        Ok(Next::CONTINUE)
    }
}

#[cfg(test)]
mod tests {
    use plugin_api::{Configuration, testing};

    use super::*;

    #[track_caller]
    fn sent(conf: &str) -> testing::Outcome {
        let rewrite = testing::conf::<RequestBodyRewrite>(conf).unwrap();
        let outcome = rewrite.access(testing::Request::post("/x", "old"));
        assert!(outcome.continues(), "{outcome:?}");
        outcome
    }

    #[test]
    fn the_upstream_gets_the_body_of_the_conf_and_the_old_one_is_not_asked_for() {
        let outcome = sent(r#"{"new_body": "new body"}"#);
        assert_eq!(outcome.body().unwrap(), "new body");
        assert!(outcome.undeclared_questions().is_empty());
    }

    #[test]
    fn without_a_new_body_the_clients_goes_on() {
        for conf in ["", "{}", r#"{"new_body": ""}"#] {
            assert!(sent(conf).body().is_none());
        }
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["new_body"]["type"], "string");
        assert_eq!(schema["properties"].as_object().unwrap().len(), 1);
    }
}
