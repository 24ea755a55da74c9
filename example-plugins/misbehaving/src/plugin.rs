//! The plugin: what its conf, and its settings for the start, tell it to do.

use std::borrow::Cow;

use plugin_api::{
    ConfContext, InitContext, Next, Plugin, Purpose, Request, Response, Result, State, Value, bail,
    config, plugin, tracing,
};

use crate::trouble::{segfault, take, trouble, wait};

/// What kind of trouble.
#[config]
pub(crate) struct Config {
    /// One of the words of `trouble`, or of `configure`.
    pub(crate) mode: String,
    /// For the modes that take time.
    #[serde(default)]
    pub(crate) ms: u64,
    /// Where: `access` when it is left out.
    #[serde(default = "access")]
    pub(crate) phase: String,
    /// What the modes `tell` and `answer` say beside the mark of the file.
    #[serde(default)]
    text: String,
}

fn access() -> String {
    "access".to_owned()
}

/// `plugins.settings.misbehaving`.
#[config]
pub(crate) struct Settings {
    /// `panic`, `fail`, `hang`, `abort`, `exit`, `segfault`, `hang_in_probe`, `slow` or `exclusive`.
    #[serde(default)]
    init: String,
    /// Of the thing that `exclusive` takes.
    #[serde(default)]
    name: String,
}

/// The plugin.
pub(crate) struct Misbehaving;

/// A conf, which may panic when it is dropped.
pub(crate) struct Prepared(Config);

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.0.mode == "drop_panic" {
            panic!("dropped as it was told to");
        }
    }
}

/// Tests write another one into the file: every one makes a build of its own.
#[used]
static MISBEHAVING_MARK: [u8; 16] = *b"mark-of-the-file";

#[plugin(priority = -7)]
impl Plugin for Misbehaving {
    type Config = Config;
    type Prepared = Prepared;

    fn init_worker(context: &InitContext) -> Result<Self> {
        if cfg!(feature = "slow_init") {
            wait(u64::MAX);
        }
        let settings: Settings = context.settings()?;
        match settings.init.as_str() {
            "panic" => panic!("started as it was told to"),
            "fail" => bail!("was told to fail"),
            "hang" if context.purpose() == Purpose::Serve => wait(u64::MAX),
            "slow" if context.purpose() == Purpose::Serve => wait(500),
            "exclusive" if context.purpose() == Purpose::Serve => take(&settings.name)?,
            "hang_in_probe" if context.purpose() == Purpose::Probe => wait(u64::MAX),
            "abort" => std::process::abort(),
            "exit" => std::process::exit(0),
            "segfault" => segfault(),
            _ => {}
        }
        tracing::debug!("made an instance");
        Ok(Self)
    }

    fn configure(&self, config: Config, _: &ConfContext) -> Result<Prepared> {
        let mark = std::hint::black_box(MISBEHAVING_MARK);
        if mark.starts_with(b"mark-refuse")
            || mark.starts_with(b"mark-choosy") && config.mode != "mark"
        {
            bail!("this build was told to refuse");
        }
        match config.mode.as_str() {
            "refuse" => bail!("was told to refuse"),
            "panic_in_configure" => panic!("configured as it was told to"),
            "slow_configure" => wait(config.ms),
            _ => {}
        }
        Ok(Prepared(config))
    }

    fn rewrite(&self, conf: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        if conf.0.mode == "tell" {
            tell(request)?;
        }
        trouble(&conf.0, "rewrite")
    }

    fn access(&self, conf: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        match conf.0.mode.as_str() {
            "tell" => tell(request)?,
            "answer" => return answer(&conf.0, request),
            _ => {}
        }
        if conf.0.phase == "access" {
            change(&conf.0, request)?;
        }
        trouble(&conf.0, "access")
    }

    fn header_filter(&self, conf: &Prepared, response: &mut Response<'_>) -> Result<Next> {
        if conf.0.mode == "tell" {
            let call = text(response.header("x-call"));
            response.set_header("x-told", format!("{}|{}|{call}", mark(), conf.0.text))?;
        }
        trouble(&conf.0, "header_filter")
    }

    fn export_state(&self, conf: &Prepared) -> Option<State> {
        match conf.0.mode.as_str() {
            "state_refused" => Some(State::new(7, "a state")),
            "state_huge" => Some(State::new(1, vec![b'x'; State::MAX_LEN + 1])),
            "state_panic" => panic!("handed on as it was told to"),
            "state_hang" => {
                wait(u64::MAX);
                None
            }
            _ => None,
        }
    }

    fn import_state(&self, _: &Prepared, state: State) -> Result<()> {
        bail!("version {} of a state is not known", state.version)
    }
}

/// Which build this is.
pub(crate) fn mark() -> String {
    String::from_utf8_lossy(&std::hint::black_box(MISBEHAVING_MARK)).into_owned()
}

/// Leaves the mark for a later link of the chain: one call must not meet two builds.
fn tell(call: &mut Request<'_>) -> Result<()> {
    let told = call
        .shared("told")
        .map_or("".into(), Value::to_string_lossy);
    let told = format!("{told}{} ", mark());
    call.set_shared("told", told)
}

/// Answers with all marks that the call has met, with the route's text and with the call's number.
fn answer(config: &Config, request: &mut Request<'_>) -> Result<Next> {
    tell(request)?;
    let told = text(request.shared("told"));
    let call = text(request.header("x-call"));
    let body = format!("{}|{}|{call}", told.trim_end(), config.text);
    Next::respond(200).body(body).into()
}

fn text(value: Option<Value<'_>>) -> Cow<'_, str> {
    value.map_or("none".into(), Value::to_string_lossy)
}

/// What needs the request.
fn change(config: &Config, request: &mut Request<'_>) -> Result<()> {
    match config.mode.as_str() {
        "bad_utf8" => {
            request.set_header("x-bad", b"a\xff\xfeb")?;
            request.set_path(b"/\xff\xfe")
        }
        "illegal_header" => request.set_header("x-bad", "a\r\nx-evil: 1"),
        "path_without_slash" => request.set_path("evil.test/"),
        "ask" => request.variable("remote_addr").map(drop),
        _ => Ok(()),
    }
}
