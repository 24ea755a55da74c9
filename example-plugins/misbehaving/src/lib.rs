//! Tests only: does what a plugin must not do, as its conf (and its settings, for the start) say.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::Duration;

use plugin_api::{
    ConfContext, InitContext, Next, Plugin, Purpose, Request, Response, Result, bail, config, log,
    plugin, tracing,
};

/// What kind of trouble.
#[config]
pub struct Config {
    /// One of the words of `trouble`, or of `configure`.
    mode: String,
    /// For the modes that take time.
    #[serde(default)]
    ms: u64,
    /// Where: `access` when it is left out.
    #[serde(default = "access")]
    phase: String,
}

fn access() -> String {
    "access".to_owned()
}

/// `plugins.settings.misbehaving`.
#[config]
pub struct Settings {
    /// `panic`, `fail`, `hang`, `abort`, `exit`, `segfault`, `hang_in_probe`, `slow` or `exclusive`.
    #[serde(default)]
    init: String,
    /// Of the thing that `exclusive` takes.
    #[serde(default)]
    name: String,
}

/// The plugin.
pub struct Misbehaving;

/// A conf, which may panic when it is dropped.
pub struct Prepared(Config);

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
        if std::hint::black_box(MISBEHAVING_MARK).starts_with(b"mark-refuse") {
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

    fn rewrite(&self, conf: &Prepared, _: &mut Request<'_>) -> Result<Next> {
        trouble(&conf.0, "rewrite")
    }

    fn access(&self, conf: &Prepared, request: &mut Request<'_>) -> Result<Next> {
        if conf.0.phase == "access" {
            change(&conf.0, request)?;
        }
        trouble(&conf.0, "access")
    }

    fn header_filter(&self, conf: &Prepared, _: &mut Response<'_>) -> Result<Next> {
        trouble(&conf.0, "header_filter")
    }
}

/// What needs the request.
fn change(config: &Config, request: &mut Request<'_>) -> Result<()> {
    match config.mode.as_str() {
        "illegal_header" => request.set_header("x-bad", "a\r\nx-evil: 1"),
        "path_without_slash" => request.set_path("evil.test/"),
        "ask" => request.variable("remote_addr").map(drop),
        _ => Ok(()),
    }
}

/// What can happen in any phase.
fn trouble(config: &Config, phase: &str) -> Result<Next> {
    if config.phase != phase {
        return Ok(Next::CONTINUE);
    }
    match config.mode.as_str() {
        "mark" => {
            return Next::respond(200)
                .body(std::hint::black_box(MISBEHAVING_MARK))
                .into();
        }
        "error" => bail!("was told to fail"),
        "panic" => panic!("panicked as it was told to"),
        "sleep" => {
            wait(config.ms);
            return Next::respond(200).body("awake").into();
        }
        "status_150" => return Next::respond(150).into(),
        "huge_reply" => return Next::respond(200).body(vec![b'x'; 1 << 24]).into(),
        "log" => say(),
        "print" => print(),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(0),
        "segfault" => segfault(),
        "stack_overflow" => drop(overflow(0)),
        "allocate_all" => allocate_all(),
        "leak" => leak(),
        "thread_crash" => crash_elsewhere(),
        _ => {}
    }
    Ok(Next::CONTINUE)
}

fn say() {
    tracing::warn!(answer = 42, "said with tracing");
    log::error!("said with {}", "log");
    tracing::debug!("said too quietly");
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a plugin should not do"
)]
fn print() {
    println!("printed to standard output");
    eprintln!("printed to standard error");
}

/// Blocks its thread.
fn wait(ms: u64) {
    let start = std::time::Instant::now();
    while let Some(rest) = Duration::from_millis(ms).checked_sub(start.elapsed()) {
        std::thread::park_timeout(rest);
    }
}

/// Never comes back.
#[expect(unconditional_recursion, reason = "it is what it is for")]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + room[7]
}

/// Takes something that only one process can have, for as long as the process lives.
fn take(name: &str) -> Result<()> {
    let address = SocketAddr::from_abstract_name(name)?;
    std::mem::forget(UnixListener::bind_addr(&address)?);
    Ok(())
}

/// Never gives it back.
fn leak() {
    std::mem::forget(std::hint::black_box(vec![1u8; 1 << 26]));
}

fn allocate_all() {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1; 1 << 24]));
    }
}

/// Crashes on a thread of its own, and waits for that.
fn crash_elsewhere() {
    let _ = std::thread::spawn(segfault).join();
}

#[expect(unsafe_code, reason = "there is no other way to do what is forbidden")]
fn segfault() {
    let nowhere = std::ptr::without_provenance::<u8>(8);
    // SAFETY: none: nothing is mapped there, and the process is meant to end.
    unsafe { nowhere.read_volatile() };
}
