//! Uses all that a plugin of ABI 1.0 can do, so that a later runner shows whether it still can.
#![forbid(unsafe_code)]

use plugin_api::{
    Arg, Call, ConfContext, InitContext, Next, Plugin, Request, Response, Result, State,
    Value as Bytes, bail, config, log, plugin, serde_json::Value, tracing,
};

/// `{"greeting": "hello"}`
#[config]
pub struct Config {
    /// What it says.
    greeting: String,
}

/// What `configure` makes.
pub struct Prepared {
    greeting: String,
    route_key: String,
}

/// The plugin.
pub struct Frozen {
    setting: String,
}

#[plugin(priority = 7, min_runner = "0.1.0")]
impl Plugin for Frozen {
    type Config = Config;
    type Prepared = Prepared;

    fn init_worker(context: &InitContext) -> Result<Self> {
        let settings: Value = context.settings()?;
        let setting = settings["setting"].as_str().unwrap_or("none").to_owned();
        log::info!("frozen starts as generation {}", context.generation());
        Ok(Self { setting })
    }

    fn validate(config: &Config) -> Result<()> {
        if config.greeting.is_empty() {
            bail!("`greeting` is empty");
        }
        Ok(())
    }

    fn configure(&self, config: Config, context: &ConfContext) -> Result<Prepared> {
        Ok(Prepared {
            greeting: config.greeting,
            route_key: context.route_key().to_owned(),
        })
    }

    #[needs(variables("remote_port"))]
    fn rewrite(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let port = request.variable("remote_port")?;
        request.set_private("port", bytes(port))?;
        request.set_shared("frozen.greeting", &prepared.greeting)?;
        request.set_path("/frozen")?;
        request.set_header("x-setting", &self.setting)?;
        request.remove_header("x-gone")?;
        request.set_response_header("X-Beside", "1")?;
        Ok(Next::CONTINUE)
    }

    #[needs(request_body)]
    fn access(&self, prepared: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        let flags = request
            .args()
            .filter(|(_, value)| matches!(value, Arg::Flag));
        let flags = flags.count().to_string();
        request.set_arg("flags", flags)?;
        request.set_header("x-port", bytes(request.private("port")))?;
        let host = bytes(request.variable("host")?);
        match request.body()? {
            Some(body) if body == "stop" => Next::respond(418)
                .header("X-Host", host)
                .text(format!(
                    "{} {:?} {} {}",
                    prepared.greeting,
                    request.method(),
                    request
                        .client_address()
                        .map_or("?".to_owned(), |a| a.to_string()),
                    prepared.route_key
                ))
                .into(),
            Some(body) if body == "fail" => bail!("was told to fail"),
            Some(body) if body == "panic" => panic!("panicked as it was told to"),
            Some(body) => {
                request.set_body([body.as_bytes(), b" and more"].concat())?;
                Ok(Next::CONTINUE)
            }
            None => Ok(Next::CONTINUE),
        }
    }

    fn header_filter(&self, prepared: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        let cookies = response.header_values("set-cookie").count();
        response.add_header("X-Cookies", cookies.to_string())?;
        response.set_header("X-Greeting", &prepared.greeting)?;
        response.remove_header("X-Gone")?;
        response.set_status(response.status() + 1)?;
        Ok(Next::CONTINUE)
    }

    #[needs(response_body)]
    fn body_filter(&self, _: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        if let Some(body) = response.body()? {
            response.set_body(body.as_bytes().to_ascii_uppercase())?;
        }
        Ok(Next::CONTINUE)
    }

    fn log(&self, prepared: &Prepared, call: &Call<'_>) {
        let status = call.end().and_then(|end| end.status());
        tracing::warn!(status, "{} was logged", prepared.greeting);
    }

    fn export_state(&self, prepared: &Prepared) -> Option<State> {
        Some(State::new(3, prepared.greeting.as_bytes()))
    }

    fn import_state(&self, _: &Prepared, state: State) -> Result<()> {
        let text = String::from_utf8_lossy(&state.data);
        tracing::warn!(
            "goes on with version {} of its state: {text}",
            state.version
        );
        Ok(())
    }
}

fn bytes(value: Option<Bytes<'_>>) -> &[u8] {
    value.map_or(b"none", |value| value.as_bytes())
}
