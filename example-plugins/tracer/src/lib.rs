//! Tests only: notes every phase that it runs in, for all plugins of the chain, and says in `log` what it knows.
#![forbid(unsafe_code)]

use std::sync::mpsc;
use std::time::Duration;

use plugin_api::{
    Call, ConfContext, InitContext, Next, Plugin, Request, Response, Result, bail, config, plugin,
    tracing,
};

/// `{"label": "a"}`
#[config]
pub struct Config {
    /// Tells the places in a chain apart.
    #[serde(default)]
    label: String,
    /// Answers in this phase.
    #[serde(default)]
    answer_in: String,
    /// Fails in this phase.
    #[serde(default)]
    fail_in: String,
    /// Takes a second in this phase.
    #[serde(default)]
    hang_in: String,
    /// Asks the gateway in `access`.
    #[serde(default)]
    ask: bool,
    /// Authenticates this consumer in `access`.
    #[serde(default)]
    consumer: Option<String>,
    /// Accepts this credential in `access`, also without a consumer.
    #[serde(default)]
    credential: Option<String>,
    /// Puts the client into these groups in `access`.
    #[serde(default)]
    groups: Vec<String>,
    /// Logs in this phase, or in `configure`.
    #[serde(default)]
    say_in: String,
    /// Adds a field with the label to the call's line, in this phase.
    #[serde(default)]
    field_in: String,
}

impl Config {
    fn say(&self, phase: &str) {
        if self.say_in == phase {
            tracing::info!("said in a phase");
        }
    }

    fn run(&self, phase: &str, call: &mut Call<'_>) -> Result<Next> {
        let before = call.shared("trace").map(|trace| trace.to_string());
        let trace = before.unwrap_or_default() + &format!("{}.{phase} ", self.label);
        call.set_shared("trace", trace)?;
        call.set_private("own", phase)?;
        self.say(phase);
        if self.field_in == phase {
            call.log_field("label", &self.label)?;
        }
        if self.hang_in == phase {
            hang();
        }
        if self.fail_in == phase {
            bail!("`fail_in` says so");
        }
        if self.answer_in == phase {
            let trace = call.shared("trace").map(|trace| trace.to_string());
            return Next::respond(299).body(trace.unwrap_or_default()).into();
        }
        Ok(Next::CONTINUE)
    }
}

fn hang() {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(Duration::from_secs(1));
}

/// The plugin.
pub struct Tracer;

#[plugin]
impl Plugin for Tracer {
    type Config = Config;
    type Prepared = Config;

    fn init_worker(_: &InitContext) -> Result<Self> {
        tracing::debug!("said at the start");
        Ok(Self)
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Config> {
        config.say("configure");
        Ok(config)
    }

    fn rewrite(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        config.run("rewrite", request)
    }

    fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
        if let Some(consumer) = &config.consumer {
            request.set_consumer(consumer, None)?;
        }
        if let Some(credential) = &config.credential {
            request.set_credential(credential)?;
        }
        for group in &config.groups {
            request.add_group(group)?;
        }
        if config.ask {
            request.variable("remote_addr")?;
        }
        config.run("access", request)
    }

    fn header_filter(&self, config: &Config, response: &mut Response<'_>) -> Result<Next> {
        config.run("header_filter", response)
    }

    fn body_filter(&self, config: &Config, response: &mut Response<'_>) -> Result<Next> {
        config.run("body_filter", response)
    }

    fn log(&self, config: &Config, call: &Call<'_>) {
        let Some(end) = call.end() else { return };
        config.say("log");
        let seen = call.request().map(|request| request.path().to_string());
        if config.field_in == "log" {
            let _ = call.log_field("label", &config.label);
        }
        tracing::info!(
            label = config.label,
            trace = call.shared("trace").map(tracing::field::display),
            own = call.private("own").map(tracing::field::display),
            consumer = call.consumer().map(tracing::field::display),
            path = seen,
            hook = ?call.hook(),
            action = ?end.action(),
            ended = ?end.ended(),
            status = end.status(),
            by = end.plugin().map(tracing::field::display),
            timed = (end.took() >= end.access_took() && end.took() > Duration::ZERO),
            "logged"
        );
        assert!(config.fail_in != "log", "`fail_in` says so");
    }
}
