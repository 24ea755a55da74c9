//! Who is the client? An API key says so. Behaves as Kong's plugin of that name; consumers and keys come from the
//! configuration.
#![forbid(unsafe_code)]

mod keys;
mod search;

use std::sync::Arc;

use plugin_api::serde::Deserialize;
use plugin_api::serde_json::json;
use plugin_api::{
    ConfContext, InitContext, Method, Next, Plugin, Request, Result, bail, config, plugin,
};

use keys::{Consumer, Keys};
use search::Found;

/// `{"key_names": ["apikey"], "consumers": [{"username": "anna", "keys": ["secret"]}]}`; every key may be left out.
#[config]
pub struct Config {
    /// Names of the header, argument or field that has the key.
    #[serde(default = "apikey")]
    #[schemars(length(min = 1))]
    key_names: Vec<String>,
    /// Looks in the headers.
    #[serde(default = "yes")]
    key_in_header: bool,
    /// Looks in the query.
    #[serde(default = "yes")]
    key_in_query: bool,
    /// Looks in the body, if it is a form or a JSON object.
    #[serde(default)]
    key_in_body: bool,
    /// Does not let the upstream see the key.
    #[serde(default)]
    hide_credentials: bool,
    /// The consumer, by name or id, whom everybody is who has no valid key; without it they get 401.
    #[serde(default)]
    anonymous: Option<String>,
    /// Asks for the key of OPTIONS requests too.
    #[serde(default = "yes")]
    run_on_preflight: bool,
    /// What WWW-Authenticate names.
    #[serde(default)]
    realm: Option<String>,
    /// The consumers and their keys, beside those in `plugins.settings.key-auth`, which have the same form.
    #[serde(default)]
    consumers: Vec<Consumer>,
}

fn apikey() -> Vec<String> {
    vec!["apikey".to_owned()]
}

fn yes() -> bool {
    true
}

/// `plugins.settings.key-auth` of the runner's configuration.
#[derive(Default, Deserialize)]
#[serde(crate = "plugin_api::serde", deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    consumers: Vec<Consumer>,
}

/// The plugin.
pub struct KeyAuth {
    consumers: Vec<Consumer>,
}

/// The configuration, with all keys.
pub struct Prepared {
    config: Config,
    keys: Keys,
    anonymous: Option<Arc<Consumer>>,
    www_authenticate: String,
}

#[plugin(priority = 1250, authenticates)]
impl Plugin for KeyAuth {
    type Config = Config;
    type Prepared = Prepared;

    fn init_worker(context: &InitContext) -> Result<Self> {
        let Settings { consumers } = context.settings()?;
        Ok(Self { consumers })
    }

    fn validate(config: &Config) -> Result<()> {
        let is_name = |name: &String| {
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !name.is_empty() && name.bytes().all(token) && !name.eq_ignore_ascii_case("host")
        };
        if config.key_names.is_empty() {
            bail!("`key_names` is empty");
        }
        if let Some(index) = config.key_names.iter().position(|name| !is_name(name)) {
            let name = &config.key_names[index];
            bail!("`key_names[{index}]`: `{name}` cannot be the name of a key's header");
        }
        if config
            .realm
            .as_ref()
            .is_some_and(|realm| realm.contains(['"', '\\', '\r', '\n']))
        {
            bail!("`realm` may have no quotes, backslashes and line breaks");
        }
        Ok(())
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        let keys = Keys::new(config.consumers.iter().chain(&self.consumers).cloned())?;
        let anonymous = config
            .anonymous
            .as_ref()
            .map(|name| match keys.consumer(name) {
                Some(consumer) => Arc::clone(consumer),
                None => Arc::new(Consumer {
                    username: name.clone(),
                    id: None,
                    custom_id: None,
                    keys: Vec::new(),
                }),
            });
        let realm = config.realm.as_ref();
        Ok(Prepared {
            www_authenticate: realm
                .map_or("Key".to_owned(), |realm| format!("Key realm=\"{realm}\"")),
            keys,
            anonymous,
            config,
        })
    }

    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        if !prepared.config.run_on_preflight && request.method() == Method::OPTIONS {
            return Ok(Next::CONTINUE);
        }
        match &prepared.anonymous {
            // With an anonymous consumer, one authentication plugin of several is enough.
            Some(_) if request.credential().is_some() => Ok(Next::CONTINUE),
            Some(anonymous) => {
                if prepared.authenticate(request)?.is_some() {
                    authenticated(request, anonymous, None)?;
                }
                Ok(Next::CONTINUE)
            }
            None => match prepared.authenticate(request)? {
                None => Ok(Next::CONTINUE),
                Some(message) => prepared.unauthorized(message),
            },
        }
    }
}

impl Prepared {
    /// Why the client is nobody; `None` when it is somebody.
    fn authenticate(&self, request: &mut Request<'_>) -> Result<Option<&'static str>> {
        let (name, key) = match search::search(&self.config, request)? {
            Found::Nothing => return Ok(Some("No API key found in request")),
            Found::Several => return Ok(Some("Duplicate API key found")),
            Found::Key { name, key } => (name, key),
        };
        if self.config.hide_credentials {
            search::hide(&self.config, &name, request)?;
        }
        if key.is_empty() {
            return Ok(Some("No API key found in request"));
        }
        let Some(credential) = self.keys.find(&key) else {
            return Ok(Some("Unauthorized"));
        };
        authenticated(request, &credential.consumer, Some(&credential.id))?;
        Ok(None)
    }

    fn unauthorized(&self, message: &str) -> Result<Next> {
        let answer = Next::respond(401).header("WWW-Authenticate", &self.www_authenticate);
        answer.json(&json!({ "message": message }))?.into()
    }
}

/// Says who the client is: to later plugins, and to the upstream.
fn authenticated(
    request: &mut Request<'_>,
    consumer: &Consumer,
    credential: Option<&str>,
) -> Result<()> {
    request.set_consumer(&consumer.username, credential.map(str::as_bytes))?;
    let anonymous = credential.is_none().then_some("true");
    for (name, value) in [
        ("X-Consumer-ID", consumer.id.as_deref()),
        ("X-Consumer-Custom-ID", consumer.custom_id.as_deref()),
        ("X-Consumer-Username", Some(consumer.username.as_str())),
        ("X-Credential-Identifier", credential),
        ("X-Anonymous-Consumer", anonymous),
    ] {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => request.set_header(name, value)?,
            // What the client itself says of this is not for the upstream.
            None => request.remove_header(name)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use plugin_api::testing::{self, Outcome, Request};

    use super::*;

    const ANNA: &str = r#""consumers": [{"username": "anna", "id": "7", "keys": ["k1", "k2"]}]"#;

    #[track_caller]
    fn asked(conf: &str, request: Request) -> Outcome {
        let settings = json!({ "consumers": [{ "username": "boss", "keys": ["master"] }] });
        let plugin = testing::Instance::new::<KeyAuth>(&settings).unwrap();
        let conf = format!("{{{ANNA}{conf}}}");
        plugin.conf(conf).unwrap().access(request)
    }

    #[track_caller]
    fn message(outcome: &Outcome) -> String {
        let answer = outcome.answer().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!(answer.status(), 401);
        let body: plugin_api::serde_json::Value =
            plugin_api::serde_json::from_slice(answer.body().as_bytes()).unwrap();
        body["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_key_names_its_consumer_to_plugins_and_upstream() {
        let outcome = asked(
            "",
            Request::get("/")
                .header("apikey", "k2")
                .header("X-Consumer-Custom-ID", "forged"),
        );
        assert!(outcome.continues());
        assert_eq!(outcome.consumer().unwrap(), "anna");
        assert_eq!(outcome.credential().unwrap(), "anna#2");
        assert_eq!(outcome.header("X-Consumer-Username").unwrap(), "anna");
        assert_eq!(outcome.header("X-Consumer-ID").unwrap(), "7");
        assert_eq!(outcome.header("X-Credential-Identifier").unwrap(), "anna#2");
        assert!(outcome.header("X-Consumer-Custom-ID").is_none());
        assert!(outcome.header("X-Anonymous-Consumer").is_none());
        assert_eq!(
            asked("", Request::get("/?apikey=master"))
                .consumer()
                .unwrap(),
            "boss"
        );
    }

    #[test]
    fn who_has_no_valid_key_gets_401() {
        for (request, reason) in [
            (Request::get("/"), "No API key found in request"),
            (Request::get("/?apikey"), "No API key found in request"),
            (Request::get("/?apikey="), "No API key found in request"),
            (Request::get("/?apikey=k"), "Unauthorized"),
            (
                Request::get("/?apikey=k1&apikey=k2"),
                "Duplicate API key found",
            ),
            (
                Request::get("/")
                    .header("apikey", "k1")
                    .header("apikey", "k1"),
                "Duplicate API key found",
            ),
            (
                Request::get("/?apikey=k1").header("apikey", "wrong"),
                "Unauthorized",
            ),
        ] {
            let outcome = asked("", request);
            assert_eq!(message(&outcome), reason);
            assert_eq!(
                outcome
                    .answer()
                    .unwrap()
                    .header("WWW-Authenticate")
                    .unwrap(),
                "Key"
            );
        }
        let outcome = asked(r#", "realm": "house""#, Request::get("/"));
        assert_eq!(
            outcome
                .answer()
                .unwrap()
                .header("WWW-Authenticate")
                .unwrap(),
            "Key realm=\"house\""
        );
    }

    #[test]
    fn the_key_may_be_in_a_form_or_a_json_object() {
        let form = "application/x-www-form-urlencoded";
        for (kind, body, continues) in [
            (form, "a=1&apikey=k1", true),
            (form, "apikey=k1&apikey=k1", false),
            (
                "application/json; charset=utf-8",
                r#"{"apikey": "k1"}"#,
                true,
            ),
            ("application/json", r#"{"apikey": 1}"#, false),
            ("application/json", "[]", false),
            ("text/plain", "apikey=k1", false),
        ] {
            let request = Request::post("/", body).header("Content-Type", kind);
            assert_eq!(
                asked(r#", "key_in_body": true"#, request.clone()).continues(),
                continues,
                "{body}"
            );
            let outcome = asked("", request);
            assert!(!outcome.continues() && outcome.undeclared_questions().is_empty());
        }
    }

    #[test]
    fn hidden_credentials_do_not_reach_the_upstream() {
        let conf = r#", "hide_credentials": true, "key_in_body": true"#;
        let outcome = asked(conf, Request::get("/?apikey=k1&b=2").header("apikey", "k1"));
        assert!(outcome.header("apikey").is_none() && outcome.arg("apikey").is_none());
        assert_eq!(outcome.arg("b").unwrap(), "2");
        for (kind, body, rest) in [
            ("application/x-www-form-urlencoded", "apikey=k1&a=1", "a=1"),
            ("application/x-www-form-urlencoded", "apikey=k1", "&"),
            (
                "application/json",
                r#"{"apikey": "k1", "a": 1}"#,
                r#"{"a":1}"#,
            ),
        ] {
            let request = Request::post("/", body).header("Content-Type", kind);
            assert_eq!(asked(conf, request).body().unwrap(), rest);
        }
    }

    #[test]
    fn an_anonymous_consumer_stands_in_for_everybody_else() {
        let conf = r#", "anonymous": "guest""#;
        for request in [
            Request::get("/"),
            Request::get("/?apikey=wrong"),
            Request::get("/?apikey=a&apikey=b"),
        ] {
            let outcome = asked(conf, request);
            assert!(outcome.continues());
            assert_eq!(outcome.consumer().unwrap(), "guest");
            assert!(outcome.credential().is_none());
            assert_eq!(outcome.header("X-Anonymous-Consumer").unwrap(), "true");
        }
        assert_eq!(
            asked(conf, Request::get("/?apikey=k1")).consumer().unwrap(),
            "anna"
        );
        let known = asked(r#", "anonymous": "7""#, Request::get("/"));
        assert_eq!(known.header("X-Consumer-Username").unwrap(), "anna");
    }

    #[test]
    fn preflight_requests_may_pass() {
        let preflight = Request::new(Method::OPTIONS, "/");
        assert!(!asked("", preflight.clone()).continues());
        assert!(asked(r#", "run_on_preflight": false"#, preflight).continues());
        assert!(!asked(r#", "run_on_preflight": false"#, Request::get("/")).continues());
    }

    #[test]
    fn a_key_that_two_consumers_have_or_a_name_that_cannot_be_one_is_refused() {
        for (conf, reason) in [
            (
                r#"{"consumers": [{"username": "a", "keys": ["x"]}, {"username": "b", "keys": ["y", "x"]}]}"#,
                "consumer `b`: its key 2 is in use already",
            ),
            (
                r#"{"consumers": [{"username": "a", "keys": [""]}]}"#,
                "consumer `a`: has an empty key",
            ),
            (
                r#"{"key_names": ["ok", "a b"]}"#,
                "`key_names[1]`: `a b` cannot be the name of a key's header",
            ),
            (r#"{"key_names": []}"#, "`key_names` is empty"),
        ] {
            let refused = testing::conf::<KeyAuth>(conf).unwrap_err();
            assert_eq!(refused.to_string(), reason);
        }
    }
}
