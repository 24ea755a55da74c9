//! `plugin-runner dev`: a small gateway for development and tests. It reads routes in APISIX's standalone form and does
//! to a runner over its Unix socket what APISIX 3.18 does, without APISIX. It never loads a plugin itself.
//!
//! A request walks down this list; the answer walks back up.

pub mod frames; // the gateway's side of them, for others who play gateway
mod hooks; // pre-req, post-req, the upstream, post-resp, and what a failure leads to
mod reply;
mod request; // what the runner is told about a request
mod response; // what a Stop, a response call or an upstream's reply does to the answer
mod rewrite; // what a Rewrite does to it
mod routes; // which hooks a request runs, and where it goes then
mod server; // HTTP in and out, the routes file read again when it changes
mod session; // connections, tokens and ids
mod variables; // what the runner can ask for by name
mod wire; // the gateway's frames // the runner's frames
// Beside them:
mod child;
mod crates; // one plugin's crate, one build
mod echo;
mod headers;
mod inspect; // the page about it all
mod journal; // what happened lately
mod page;
mod percent;
mod rebuild; // all crates: built when they change
mod runner_log; // what the runner writes
mod screen; // what we print
mod sources; // when a crate has changed
mod tap;
mod upstream;
mod waiting; // 503 until the first build is done

#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::child::{OwnFolder, RESPAWN_DELAY, Runner, World};
use self::inspect::Inspector;
use self::journal::{Journal, Kind};
use self::rebuild::Rebuild;
use self::routes::Routes;
use self::screen::{Screen, say, tell};
use self::server::{Gateway, warn};
use self::session::Session;
use self::upstream::Target;
use crate::exit::Failure;
use crate::plugins::metadata::About;

const EXAMPLES: &str = "\
Examples:
  Build a plugin whenever its source is saved, and serve it on every path:
    plugin-runner dev --crate my-plugin
  With routes in APISIX's standalone form (my-plugin/apisix.yaml is taken by itself):
    plugin-runner dev --crate my-plugin --routes apisix.yaml
  Libraries that are built already:
    plugin-runner dev --routes apisix.yaml --plugins DIR

What the plugins do is shown on http://ADDRESS/__plugin_runner, which no route gets.";

/// Runs a local gateway in front of a runner, for development and tests.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Folder of a plugin's crate: built now and whenever it changes; may be given several times.
    #[arg(long = "crate", value_name = "DIR", conflicts_with = "runner_socket")]
    pub crates: Vec<PathBuf>,

    /// Build the crates with optimisations.
    #[arg(long, requires = "crates")]
    pub release: bool,

    /// Routes in APISIX's standalone form (apisix.yaml, ending with `#END`); read again when the file changes.
    /// Without it: the apisix.yaml of the crate, else one route for every path with the crates' plugins.
    #[arg(long, value_name = "FILE", required_unless_present = "crates")]
    pub routes: Option<PathBuf>,

    /// Address to listen on; port 0 takes a free one, which the first line on standard output tells.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9080")]
    pub listen: SocketAddr,

    /// Send every request to this upstream instead of the routes' own, such as http://127.0.0.1:1980.
    /// Without it, a route without upstream nodes is answered with an echo of what the upstream would get.
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,

    /// Socket of a runner that is already running; without it, one is started and ended with the gateway.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["config", "plugins"])]
    pub runner_socket: Option<PathBuf>,

    /// Configuration file for the runner that is started; it logs to the terminal whatever the file says.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Plugins folder for the runner that is started. With --crate, what is built is laid into it too.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

/// Serves until Ctrl-C or SIGTERM, in a runtime of its own. Fails if the routes file has faults, the address is
/// taken, a crate is none, or the runner does not start.
pub fn run(options: Options) -> anyhow::Result<()> {
    let upstream = options
        .upstream
        .as_deref()
        .map(parse_upstream)
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(&options, upstream));
    // A look at a runner that hangs is not waited for.
    runtime.shutdown_background();
    served
}

/// How many routes the text of a routes file has, or all its faults, with their lines. Opens nothing.
///
/// # Errors
/// The faults.
pub fn check_routes(text: &str) -> Result<usize, Vec<String>> {
    routes::check(text)
}

async fn serve(options: &Options, upstream: Option<Target>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let folder = match options.runner_socket {
        Some(_) => None,
        None => Some(OwnFolder::create()?),
    };
    let mut runner = None;
    let ended = tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = develop(options, upstream, folder.as_ref(), &mut runner) => ended.map(|never| match never {}),
    };
    if let Some(runner) = &mut runner {
        runner.stop().await;
    }
    ended
}

/// Builds, starts and serves, for ever. The runner is left in `runner`.
async fn develop(
    options: &Options,
    upstream: Option<Target>,
    folder: Option<&OwnFolder>,
    runner: &mut Option<Runner>,
) -> anyhow::Result<Infallible> {
    // What can be wrong is told before anything is built.
    let mut file = routes_file(options)?;
    file.as_deref().map(Routes::read).transpose()?;
    let listener = listen(options.listen).await?;
    let address = listener.local_addr()?;
    let (screen, journal) = (
        Screen::of_process(),
        Arc::new(Journal::new(folder.is_some())),
    );
    let own_socket = folder.map(OwnFolder::socket);
    let inspector = Inspector::new(journal.clone(), own_socket.clone(), options.config.clone())?;
    let mut plugins = options.plugins.clone();
    let mut rebuild = None;
    if let Some(folder) = folder.filter(|_| !options.crates.is_empty()) {
        let into = plugins.take().map_or_else(|| folder.plugins(), Ok)?;
        let mut crates = Rebuild::new(options, into.clone(), journal, screen).await?;
        let built = first_build(&mut crates, &listener).await?;
        if file.is_none() {
            file = Some(write_routes(folder.routes(), &built)?);
        }
        (plugins, rebuild) = (Some(into), Some(crates));
    }
    let (Some(file), Some(socket)) = (file, options.runner_socket.clone().or(own_socket)) else {
        bail!("there is no runner socket, or there are no routes")
    };
    let routes = Routes::read(&file)?;
    warn(&routes);
    let session = Session::new(socket.clone());
    let gateway = Arc::new(Gateway::new(session, routes, file, upstream, inspector));
    let world = World {
        socket,
        plugins,
        screen,
        inspector: gateway.inspector.clone(),
    };
    if folder.is_some() {
        *runner = Some(Runner::spawn(options, &world)?);
    }
    if let Some(runner) = runner {
        runner.wait_until_accepting(&world.socket).await?;
    }
    say(&format!("listening on http://{address}"));
    tell(&format!(
        "what the plugins do: http://{address}{}",
        inspect::PATH
    ));
    tokio::select! {
        never = gateway.clone().serve(listener) => match never {},
        never = keep_runner(options, &world, &gateway, runner) => match never {},
        never = keep_built(rebuild) => match never {},
    }
}

/// Requests get 503 meanwhile.
async fn first_build(crates: &mut Rebuild, listener: &TcpListener) -> anyhow::Result<Vec<About>> {
    let waiting = waiting::serve(listener, crates.waiting());
    tokio::select! {
        built = crates.first() => built,
        never = waiting => match never {},
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        let failure = Failure::new(format!("cannot listen on {address}")).because(cause);
        failure
            .hint("--listen 127.0.0.1:0 takes a free port")
            .into()
    })
}

/// The routes file that was named, or the only one beside a crate's manifest.
fn routes_file(options: &Options) -> anyhow::Result<Option<PathBuf>> {
    if options.routes.is_some() {
        return Ok(options.routes.clone());
    }
    let beside = options
        .crates
        .iter()
        .map(|folder| folder.join("apisix.yaml"));
    let mut found: Vec<_> = beside.filter(|file| file.is_file()).collect();
    if found.len() > 1 {
        let several = Failure::new("several of the crates have an apisix.yaml");
        return Err(several.hint("name one with --routes").usage().into());
    }
    let file = found.pop();
    if let Some(file) = &file {
        tell(&format!("the routes are those of {}", file.display()));
    }
    Ok(file)
}

/// One route for everything, with every plugin where its phases belong.
fn write_routes(file: PathBuf, plugins: &[About]) -> anyhow::Result<PathBuf> {
    let mut text = "routes:\n  - id: everything\n    uri: /*\n    plugins:\n".to_owned();
    let names: Vec<_> = plugins.iter().map(|about| &*about.name).collect();
    for (hook, on_response) in [
        ("ext-plugin-pre-req", false),
        ("ext-plugin-post-resp", true),
    ] {
        let belongs = |about: &&About| {
            let filters = |phase: &String| phase.ends_with("_filter");
            let has_filter = about.phases.iter().any(filters);
            let has_other = !about.phases.iter().all(filters);
            if on_response {
                has_filter
            } else {
                has_other || !has_filter
            }
        };
        let mut here = plugins.iter().filter(belongs).peekable();
        if here.peek().is_some() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "      {hook}:\n        conf:");
        }
        for about in here {
            let name = about.name.replace('\'', "''");
            let _ = writeln!(text, "          - {{name: '{name}', value: '{{}}'}}");
        }
    }
    text.push_str("#END\n");
    std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    tell(&format!(
        "there is no routes file: every path runs {} with an empty configuration (--routes FILE names others)",
        names.join(", ")
    ));
    Ok(file)
}

async fn keep_built(rebuild: Option<Rebuild>) -> Infallible {
    match rebuild {
        Some(mut rebuild) => rebuild.follow().await,
        None => std::future::pending().await,
    }
}

/// Starts the runner again whenever it ends, as the gateway does: tokens flushed, 3 s later, for ever.
async fn keep_runner(
    options: &Options,
    world: &World,
    gateway: &Gateway,
    runner: &mut Option<Runner>,
) -> Infallible {
    let Some(runner) = runner else {
        return std::future::pending().await;
    };
    loop {
        let how = runner.ended().await;
        let text = format!("the runner ended ({how}); it is started again in 3 s");
        world.screen.note(Kind::Fault, &text);
        world.inspector.runner_is(0);
        world.inspector.journal.note(Kind::Fault, &text);
        gateway.session.flush_tokens();
        tokio::time::sleep(RESPAWN_DELAY).await;
        match Runner::spawn(options, world) {
            Ok(started) => *runner = started,
            Err(error) => tell(&format!("{error:#}")),
        }
    }
}

fn parse_upstream(url: &str) -> anyhow::Result<Target> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("the upstream `{url}` must start with http://"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        bail!("the upstream `{url}` must be a host and a port, without a path");
    }
    let has_port = authority
        .rsplit(']')
        .next()
        .is_some_and(|after_host| after_host.contains(':'));
    Ok(Target::Node(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    }))
}

/// Random hexadecimal digits, for names that must not meet; no secret.
fn random_hex(digits: usize) -> String {
    let mut text = String::new();
    while text.len() < digits {
        text.push_str(&format!("{:016x}", RandomState::new().hash_one(text.len())));
    }
    text.truncate(digits);
    text
}
