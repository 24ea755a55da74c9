//! A plugin that has everything a plugin can have: it compiles without `unsafe`, and each part is reached.

use plugin_api::abi::shim;
use plugin_api::{
    Call, ConfContext, Configuration, Error, InitContext, Next, Plugin, Request, Response, Result,
    State, bail, config, plugin, serde_json, testing,
};
use serde_json::{Value, json};

#[config]
struct Config {
    #[serde(default)]
    limit: u32,
}

struct Prepared {
    limit: u32,
    route_key: String,
}

struct All {
    greeting: String,
}

#[plugin(
    name = "say \"all\"",
    version = "1.2.3",
    priority = -7,
    blocking,
    min_runner = "0.1.0"
)]
impl Plugin for All {
    type Config = Config;
    type Prepared = Prepared;

    fn init_worker(context: &InitContext) -> Result<Self> {
        let settings: Value = context.settings()?;
        match settings["greeting"].as_str() {
            Some(greeting) => Ok(Self {
                greeting: greeting.to_owned(),
            }),
            None => bail!("settings need a greeting"),
        }
    }

    fn validate(config: &Config) -> Result<()> {
        match config.limit {
            0..=100 => Ok(()),
            limit => Err(Error::new(format_args!("{limit} is over 100")).context("limit")),
        }
    }

    fn configure(&self, config: Config, context: &ConfContext) -> Result<Prepared> {
        Ok(Prepared {
            limit: config.limit,
            route_key: context.route_key().to_owned(),
        })
    }

    #[needs(variables("remote_port"))]
    fn rewrite(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let port = request.variable("remote_port")?;
        request.set_private("port", port.map(|port| port.as_bytes()).unwrap_or_default())?;
        request.set_header("x-route", &prepared.route_key)?;
        Ok(Next::CONTINUE)
    }

    #[needs(request_body)]
    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        request.set_header("x-port", request.private("port").unwrap())?;
        match request.body()? {
            Some(body) if body.len() > prepared.limit as usize => {
                Next::respond(413).text(&self.greeting).into()
            }
            _ => Ok(Next::CONTINUE),
        }
    }

    fn header_filter(&self, _: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        response.add_header("x-status", response.status().to_string())?;
        Ok(Next::CONTINUE)
    }

    #[needs(response_body)]
    fn body_filter(&self, _: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        let body = response.body()?.map(|body| body.as_bytes());
        response.set_body(body.unwrap_or(b"nothing").to_ascii_uppercase())?;
        Ok(Next::CONTINUE)
    }

    fn log(&self, _: &Prepared, _: &Call<'_>) {}

    fn certificate(&self, _: &Prepared, _: &Call<'_>) -> Result<()> {
        Ok(())
    }

    fn export_state(&self, prepared: &Prepared) -> Option<State> {
        Some(State::new(1, prepared.limit.to_le_bytes()))
    }

    fn import_state(&self, prepared: &Prepared, state: State) -> Result<()> {
        if state.version != 1 {
            bail!("version {} of the state is not known", state.version);
        }
        if state.data != prepared.limit.to_le_bytes() {
            bail!("it belongs to another limit");
        }
        Ok(())
    }
}

#[track_caller]
fn all(conf: &str) -> testing::Conf {
    let settings = json!({ "greeting": "too large" });
    let instance = testing::Instance::new::<All>(&settings).unwrap();
    instance.conf_of_route("route#9#x#1", conf).unwrap()
}

#[test]
fn a_request_runs_through_rewrite_and_access_as_one_call() {
    let request = testing::Request::post("/", "four").variable("remote_port", "1234");
    let outcome = all(r#"{"limit": 4}"#).request(request);
    assert!(outcome.continues(), "{outcome:?}");
    assert_eq!(outcome.header("x-route").unwrap(), "route#9#x#1");
    assert_eq!(outcome.header("X-Port").unwrap(), "1234");
    assert!(outcome.undeclared_questions().is_empty());
}

#[test]
fn an_answer_ends_the_call() {
    let request = testing::Request::post("/", "four").variable("remote_port", "1234");
    let outcome = all("").request(request);
    let answer = outcome.answer().unwrap();
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.body(), "too large");
    assert!(answer.header("content-type").is_some());
}

#[test]
fn a_response_runs_through_both_filters() {
    let outcome = all("").response(testing::Response::new(201).body("hello"));
    assert_eq!(outcome.header("x-status").unwrap(), "201");
    assert_eq!(outcome.body().unwrap(), "HELLO");
}

#[test]
fn settings_confs_and_their_limits_are_checked_before_any_call() {
    let refused = testing::conf::<All>("").unwrap_err();
    assert_eq!(refused.to_string(), "settings need a greeting");
    let settings = json!({ "greeting": "" });
    let instance = testing::Instance::new::<All>(&settings).unwrap();
    let refused = instance.conf(r#"{"limit": 101}"#).unwrap_err();
    assert_eq!(refused.to_string(), "limit: 101 is over 100");
}

#[test]
fn the_library_describes_itself() {
    let described = shim::module::<All>().describe()();
    let mut about: Value = serde_json::from_str(described.as_str()).unwrap();
    let schema = about["schema"].take();
    assert_eq!(schema, Config::schema().unwrap());
    let variable =
        json!({ "variables": ["remote_port"], "request_body": false, "response_body": false });
    let request = json!({ "variables": [], "request_body": true, "response_body": false });
    let response = json!({ "variables": [], "request_body": false, "response_body": true });
    assert_eq!(
        about,
        json!({
            "name": "say \"all\"",
            "version": "1.2.3",
            "min_runner": "0.1.0",
            "priority": -7,
            "blocking": true,
            "authenticates": false,
            "state": true,
            "phases": ["rewrite", "access", "header_filter", "body_filter", "log", "certificate"],
            "needs": { "rewrite": variable, "access": request, "body_filter": response },
            "schema": null,
        })
    );
}

#[test]
fn state_goes_out_with_its_version_and_comes_back() {
    let conf = all(r#"{"limit": 5}"#);
    let state = conf.export_state().unwrap().unwrap();
    assert_eq!(state, State::new(1, [5, 0, 0, 0]));
    let successor = all(r#"{"limit": 5}"#);
    successor.import_state(state).unwrap();
    let refused = successor.import_state(State::new(2, "?")).unwrap_err();
    assert_eq!(refused.to_string(), "version 2 of the state is not known");
}
