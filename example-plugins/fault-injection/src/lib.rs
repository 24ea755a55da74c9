//! Answers or delays a share of the requests, to see how a client copes.
#![forbid(unsafe_code)]

use std::time::Duration;

use plugin_api::{Next, Plugin, Request, Result, bail, config, plugin, tracing};

/// The longest delay, in milliseconds: by then the gateway has given up.
const MAX_DELAY: u32 = 60_000;

/// Left of the call's time after a delay, so that the answer is the plugin's and not an error.
const MARGIN: Duration = Duration::from_millis(100);

/// `{"http_status": 503, "body": "fault", "percentage": 10}`, `{"delay": 200}`, or both.
#[config]
pub struct Config {
    /// Status of the answer. May be left out where there is a delay: then the request goes on after it.
    #[schemars(range(min = 200, max = 599))]
    http_status: Option<u16>,
    /// Body of the answer.
    #[serde(default)]
    body: String,
    /// Of 100 requests, how many are met, by chance.
    #[serde(default = "all")]
    #[schemars(range(max = 100))]
    percentage: u8,
    /// Milliseconds to wait first. Cut short where the call has less time left.
    #[serde(default)]
    #[schemars(range(max = MAX_DELAY))]
    delay: u32,
}

fn all() -> u8 {
    100
}

/// The plugin.
#[derive(Default)]
pub struct FaultInjection;

#[plugin(blocking)]
impl Plugin for FaultInjection {
    type Config = Config;

    fn validate(config: &Config) -> Result<()> {
        match config.http_status {
            Some(200..=599) => {}
            Some(status) => bail!("`http_status`: {status} is not 200 to 599"),
            None if config.delay == 0 => bail!("`http_status` or `delay` must be given"),
            None if !config.body.is_empty() => bail!("`body` needs an `http_status`"),
            None => {}
        }
        if config.percentage > 100 {
            bail!("`percentage`: {} is more than 100", config.percentage);
        }
        if config.delay > MAX_DELAY {
            bail!("`delay`: {} is more than {MAX_DELAY}", config.delay);
        }
        Ok(())
    }

    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        if fastrand::u8(0..100) >= config.percentage {
            return Ok(Next::CONTINUE);
        }
        wait(
            Duration::from_millis(config.delay.into()),
            request.remaining(),
        );
        match config.http_status {
            Some(status) => Next::respond(status).body(config.body.as_str()).into(),
            None => Ok(Next::CONTINUE),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "time lost is what is wanted here, and the plugin is declared as blocking"
)]
fn wait(delay: Duration, remaining: Duration) {
    let possible = delay.min(remaining.saturating_sub(MARGIN));
    if possible < delay {
        tracing::warn!(?delay, ?possible, "the call has less time left: cut short");
    }
    std::thread::sleep(possible);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use plugin_api::{Configuration, testing};

    use super::*;

    #[track_caller]
    fn configured(conf: &str) -> testing::Conf {
        testing::conf::<FaultInjection>(conf).unwrap()
    }

    #[track_caller]
    fn refused(conf: &str) -> String {
        let refused = testing::conf::<FaultInjection>(conf).unwrap_err();
        refused.to_string()
    }

    #[test]
    fn every_request_is_answered_with_status_and_body_of_the_conf_and_no_header() {
        let fault = configured(r#"{"http_status": 418, "body": "teapot"}"#);
        let outcome = fault.access(testing::Request::get("/x"));
        let answer = outcome.answer().unwrap();
        assert_eq!(answer.status(), 418);
        assert_eq!(answer.body(), "teapot");
        assert!(answer.header("X-Resp-A6-Runner").is_none());
    }

    #[test]
    fn the_percentage_says_how_many_requests_are_met() {
        for (percentage, expected) in [(0, 0..=0), (50, 300..=700), (100, 1000..=1000)] {
            let conf = format!(r#"{{"http_status": 500, "percentage": {percentage}}}"#);
            let fault = configured(&conf);
            let met = (0..1000)
                .filter(|_| !fault.access(testing::Request::get("/x")).continues())
                .count();
            assert!(expected.contains(&met), "{met} of 1000 at {percentage} %");
        }
    }

    #[test]
    fn a_delay_alone_lets_the_request_go_on_later() {
        let fault = configured(r#"{"delay": 20}"#);
        let started = Instant::now();
        assert!(fault.access(testing::Request::get("/x")).continues());
        assert!(started.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_delay_ends_before_the_call_does() {
        let fault = configured(r#"{"http_status": 500, "delay": 60000}"#);
        let left = MARGIN + Duration::from_millis(20);
        let outcome = fault.access(testing::Request::get("/x").remaining(left));
        assert_eq!(outcome.answer().unwrap().status(), 500);
        assert_eq!(outcome.events().len(), 1, "{:?}", outcome.events());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_key() {
        for (conf, reason) in [
            ("", "`http_status` or `delay` must be given"),
            (
                r#"{"delay": 1, "body": "x"}"#,
                "`body` needs an `http_status`",
            ),
            (
                r#"{"http_status": 199}"#,
                "`http_status`: 199 is not 200 to 599",
            ),
            (
                r#"{"http_status": 600}"#,
                "`http_status`: 600 is not 200 to 599",
            ),
            (
                r#"{"http_status": 500, "percentage": 101}"#,
                "`percentage`: 101 is more than 100",
            ),
            (r#"{"delay": 60001}"#, "`delay`: 60001 is more than 60000"),
        ] {
            assert_eq!(refused(conf), reason, "{conf}");
        }
        assert!(
            refused(r#"{"http_status": 500, "percentage": -1}"#).starts_with("at `percentage`")
        );
    }

    #[test]
    fn the_schema_names_every_key_and_no_other() {
        let schema = Config::schema().unwrap();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["http_status"]["minimum"], 200);
        assert_eq!(schema["properties"]["percentage"]["default"], 100);
        assert_eq!(schema["properties"]["delay"]["maximum"], MAX_DELAY);
        assert_eq!(schema["properties"].as_object().unwrap().len(), 4);
    }
}
