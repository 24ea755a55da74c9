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
mod echo;
mod headers;
mod page;
mod percent;
mod tap;
mod upstream;

#[cfg(test)]
mod replay_tests;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use child::{RESPAWN_DELAY, Runner, SocketFolder};
use routes::Routes;
use server::{Gateway, say, tell, warn};
use session::Session;
use upstream::Target;

/// Runs a local gateway in front of a runner, for development and tests.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Routes in APISIX's standalone form (apisix.yaml, ending with `#END`); read again when the file changes.
    #[arg(long, value_name = "FILE")]
    pub routes: PathBuf,

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

    /// Configuration file for the runner that is started.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Plugins folder for the runner that is started.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

/// Serves until Ctrl-C or SIGTERM, in a runtime of its own. Fails if the routes file has faults, the address is
/// taken, or the runner does not start.
pub fn run(options: Options) -> anyhow::Result<()> {
    let routes = Routes::read(&options.routes)?;
    let upstream = options
        .upstream
        .as_deref()
        .map(parse_upstream)
        .transpose()?;
    warn(&routes);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(options, routes, upstream))
}

/// How many routes the text of a routes file has, or all its faults, with their lines. Opens nothing.
///
/// # Errors
/// The faults.
pub fn check_routes(text: &str) -> Result<usize, Vec<String>> {
    routes::check(text)
}

async fn serve(options: Options, routes: Routes, upstream: Option<Target>) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.local_addr()?;
    let folder = match options.runner_socket {
        Some(_) => None,
        None => Some(SocketFolder::create()?),
    };
    let own_socket = folder.as_ref().map(SocketFolder::socket);
    let Some(socket) = options.runner_socket.clone().or(own_socket) else {
        bail!("there is no runner socket")
    };
    let gateway = Arc::new(Gateway::new(
        Session::new(socket),
        routes,
        options.routes.clone(),
        upstream,
    ));
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let mut runner = None;
    if folder.is_some() {
        runner = Some(tokio::select! {
            () = &mut stopped => return Ok(()),
            started = start_runner(&options, &gateway) => started?,
        });
    }
    say(&format!("listening on http://{address}"));
    tokio::select! {
        () = &mut stopped => {}
        _ = gateway.clone().serve(listener) => {}
        () = keep_runner(&options, &gateway, &mut runner) => {}
    }
    if let Some(runner) = &mut runner {
        runner.stop().await;
    }
    Ok(())
}

async fn start_runner(options: &Options, gateway: &Gateway) -> anyhow::Result<Runner> {
    let mut runner = Runner::spawn(options, gateway.session.socket())?;
    runner
        .wait_until_accepting(gateway.session.socket())
        .await?;
    Ok(runner)
}

/// Starts the runner again whenever it ends, as the gateway does: tokens flushed, 3 s later, for ever.
async fn keep_runner(options: &Options, gateway: &Gateway, runner: &mut Option<Runner>) {
    let Some(runner) = runner else {
        return std::future::pending().await;
    };
    loop {
        let how = runner.ended().await;
        tell(&format!(
            "the runner ended ({how}); it is started again in 3 s"
        ));
        gateway.session.flush_tokens();
        tokio::time::sleep(RESPAWN_DELAY).await;
        match Runner::spawn(options, gateway.session.socket()) {
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
