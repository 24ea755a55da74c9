//! Shows the main job: requests that go through a gateway into plugins loaded from `.so` files, and a plugin that is
//! replaced while it serves. Its gateway is the runner's own `dev`.

mod gateway;
mod load;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::elsewhere::Copy;
use crate::http::{Answer, Client, Request};
use crate::{cargo, plugins};
use gateway::Gateway;
use load::Load;

/// What the plugin `stop` answers as it is in the repository, and what the rebuilt one answers.
const OLD: &str = "Hello, Rust Runner of APISIX";
const NEW: &str = "Hello from the new build";
const CONNECTIONS: usize = 4;
/// The folder is scanned every 2 s even if no event arrives; the rest is for a busy machine.
const SWAP_DEADLINE: Duration = Duration::from_secs(20);

/// Runs the task.
///
/// # Errors
/// An argument is unknown, something does not build, or an answer is not what it has to be.
pub fn run(arguments: Vec<String>) -> Result<()> {
    let (once, rest): (Vec<_>, Vec<_>) = arguments
        .into_iter()
        .partition(|argument| argument == "--once");
    crate::no_more("demo", &rest)?;
    let once = !once.is_empty();
    let folder = cargo::target_folder()?.join("demo").join("plugins");
    let runner = build(&folder)?;
    heading("Starting the gateway and the runner");
    let gateway = Gateway::start(&runner, &folder, once)?;
    show_plugins(&gateway)?;
    replace_while_serving(&gateway, &folder)?;
    if !once {
        leave_running(gateway)?;
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

fn build(folder: &Path) -> Result<PathBuf> {
    heading("Building the runner and the plugins (the first time takes a minute or two)");
    let files = cargo::build(cargo::cargo().args(["build", "--package", "plugin-runner"]))?;
    let runner = files
        .into_iter()
        .find(|file| file.ends_with("plugin-runner"));
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let libraries = plugins::build(&plugins::Options {
        out: folder.to_path_buf(),
        ..plugins::Options::default()
    })?;
    for library in libraries {
        println!("    {}", library.display());
    }
    runner.context("the build made no plugin-runner")
}

/// One request for each thing that a plugin can do.
fn show_plugins(gateway: &Gateway) -> Result<()> {
    let mut client = gateway.client()?;
    heading("Plugin `stop` answers the request itself: no upstream sees it");
    let answer = show(&mut client, &Request::get("/stop"))?;
    expect(&answer, 200, &[OLD, "x-resp-a6-runner: Rust"])?;

    heading("Plugin `rewrite` changes the request: this is what the upstream got");
    let answer = show(&mut client, &Request::get("/rewrite?colour=blue"))?;
    expect(
        &answer,
        200,
        &["/a6/rust/runner", "a6_runner=Rust", "colour=blue"],
    )?;

    heading("Plugin `response-rewrite` changes the upstream's response");
    let answer = show(&mut client, &Request::get("/response-rewrite"))?;
    expect(
        &answer,
        202,
        &["x-demo: changed on the way back", "The upstream got: GET"],
    )?;
    show_members(&mut client)
}

/// Four plugins on one route, each of which may turn a client away.
fn show_members(client: &mut Client) -> Result<()> {
    heading("`bot-detection`, `key-auth`, `ip-restriction` and `acl` together on one route");
    let members = || Request::get("/members");
    for (request, status, part) in [
        (members(), 401, "No API key found in request"),
        (
            members().header("User-Agent", "Googlebot/2.1"),
            403,
            "Forbidden",
        ),
        (
            members().header("apikey", "bert-key"),
            403,
            "You cannot consume this service",
        ),
        (
            members().header("apikey", "anna-key"),
            200,
            "x-consumer-groups: gold",
        ),
    ] {
        expect(&show(client, &request)?, status, &[part])?;
        println!();
    }
    Ok(())
}

fn show(client: &mut Client, request: &Request) -> Result<Answer> {
    for line in request.text().trim_end().lines() {
        println!("    > {line}");
    }
    let answer = client.send(request)?;
    println!();
    for line in answer.text().lines() {
        println!("    < {line}");
    }
    Ok(answer)
}

fn expect(answer: &Answer, status: u16, parts: &[&str]) -> Result<()> {
    ensure!(
        answer.status == status,
        "expected status {status}, got {}",
        answer.status
    );
    let text = answer.text().to_ascii_lowercase();
    for part in parts {
        ensure!(
            text.contains(&part.to_ascii_lowercase()),
            "expected `{part}` in the answer"
        );
    }
    Ok(())
}

fn replace_while_serving(gateway: &Gateway, folder: &Path) -> Result<()> {
    heading(&format!(
        "Replacing plugin `stop` while {CONNECTIONS} connections ask for it all the time"
    ));
    let load = Load::start(gateway, CONNECTIONS, OLD, NEW)?;
    println!("    building it again with the text `{NEW}`");
    let copy = Copy::new("stop", "stop-changed")?;
    copy.replace(OLD, NEW)?;
    let library = copy.build(&[])?;
    println!(
        "    laying the new file over {}",
        folder.join("libstop.so").display()
    );
    let laid = Instant::now();
    plugins::lay_as(&library, folder, "libstop.so")?;
    let swapped = load.wait_until_new(SWAP_DEADLINE);
    let took = laid.elapsed();
    let swapped = swapped.and_then(|()| load.wait_until_settled(SWAP_DEADLINE));
    let counts = load.stop();
    swapped?;
    println!(
        "    every connection gets the new answer after {} ms",
        took.as_millis()
    );
    println!(
        "    {} requests: {} old answers, then {} new ones, {} failures",
        counts.old + counts.new + counts.failures.len(),
        counts.old,
        counts.new,
        counts.failures.len()
    );
    if let Some(failure) = counts.failures.first() {
        println!("    the first failure: {failure}");
    }
    ensure!(
        counts.failures.is_empty(),
        "requests failed while the plugin was replaced"
    );
    ensure!(counts.old > 0, "no request was answered by the old plugin");
    let answer = show(&mut gateway.client()?, &Request::get("/stop"))?;
    expect(&answer, 200, &[NEW])
}

fn leave_running(gateway: Gateway) -> Result<()> {
    let address = gateway.address();
    heading("The gateway stays up until Ctrl-C. Try:");
    println!("    curl -i http://{address}/stop");
    println!("    curl -i http://{address}/rewrite?colour=blue");
    println!("    curl -i http://{address}/response-rewrite");
    println!("    curl -i -H 'apikey: anna-key' http://{address}/members");
    println!(
        "\n    The routes are in conf/demo.yaml: edit them, the next request uses what you saved.\n"
    );
    gateway.become_it()
}
