//! What a call costs where there is more of everything, against the usual call of the same turn.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::gateway::frame;
use e2e::message::{PREPARE_CONF, prepare_payload};
use tempfile::TempDir;

use super::starts::first_answer;
use super::{Finding, Setup, patched};
use crate::call;
use crate::load::{self, Calls, Load};
use crate::process;
use crate::rounds::{self, Effort, Figures, Row};
use crate::server::{self, Server};

const CONNECTIONS: usize = 32;
const CHAIN: usize = 50;
const HEADERS: usize = 300;
const MANY_CONNECTIONS: usize = 5_000;
const TOKENS: usize = 100_000;
const BINDINGS: usize = 10_000;
const PLUGINS: usize = 1_000;

/// A call may cost so many times the usual one.
const LIMIT: f64 = 1.3;

/// Measures them one after the other.
///
/// # Errors
/// A server does not start, or answers wrongly.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let server = Server::runner(setup.runner, setup.plugins, &[], &[])?;
    first_answer(&server)?;
    let usual = row(&server, "usual", calls(&server, 1)?);
    let mut chain = row(&server, "chain", calls(&server, CHAIN)?);
    let long = compare(setup, &usual, &chain, "50 plugins in the chain")?;
    let mut findings = vec![per(long, CHAIN - 1, "ns/further plugin")];
    chain.calls = calls(&server, 1)?;
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    let token = load::prepare(&server.socket(), &conf)?;
    chain.calls[0].request = call::with_headers(token, HEADERS)?;
    let many = compare(setup, &usual, &chain, "300 headers")?;
    findings.push(per(many, HEADERS - 10, "ns/further header"));
    findings.push(connections(setup, &server, &usual)?);
    findings.push(tokens(setup, &usual)?);
    findings.push(bindings(setup)?);
    findings.push(plugins(setup, &usual)?);
    Ok(findings)
}

/// What each of `more` things adds.
fn per(finding: Finding, more: usize, what: &'static str) -> Finding {
    let value = |name: &str| {
        let mut figures = finding.figures.iter();
        let found = figures.find(|(figure, _)| *figure == name);
        found.map_or(f64::NAN, |(_, value)| *value)
    };
    let each = (value("CPU us/call") - value("usual")) * 1e3 / more as f64;
    finding.with(what, each)
}

fn calls(server: &Server, length: usize) -> Result<Vec<Calls>> {
    let conf = vec![("bench-headers".to_owned(), "{}".to_owned()); length];
    Ok(vec![server::runner_calls(
        &server.socket(),
        &conf,
        "x-bench",
    )?])
}

fn row(server: &Server, name: &str, calls: Vec<Calls>) -> Row {
    Row {
        name: name.to_owned(),
        socket: server.socket(),
        pid: server.pid(),
        calls,
        connections: None,
    }
}

fn compare(setup: &Setup<'_>, usual: &Row, other: &Row, name: &str) -> Result<Finding> {
    let rows = [usual.clone(), other.clone()];
    let figures = rounds::measure(&rows, CONNECTIONS, effort(setup))?;
    Ok(compared(name, &figures))
}

fn effort(setup: &Setup<'_>) -> Effort {
    Effort {
        rounds: setup.rounds,
        time: Duration::from_secs_f64(setup.seconds),
    }
}

/// The second row against the first.
fn compared(name: &str, figures: &[Figures]) -> Finding {
    Finding::new(name)
        .with("CPU us/call", figures[1].cpu)
        .with("usual", figures[0].cpu)
        .with("CPU ratio", figures[1].cpu_ratio)
        .with("p99 us", figures[1].p99)
}

fn connections(setup: &Setup<'_>, server: &Server, usual: &Row) -> Result<Finding> {
    let before = process::memory(server.pid()).anonymous;
    let idle = Load::new(&server.socket(), &usual.calls, MANY_CONNECTIONS)?;
    // All are accepted once the last one is.
    load::one_call(&server.socket(), &usual.calls[0])?;
    let each = process::memory(server.pid())
        .anonymous
        .saturating_sub(before);
    drop(idle);
    let many = |row: &Row| Row {
        connections: Some(MANY_CONNECTIONS),
        ..row.clone()
    };
    // What the kernel takes for so many is in it as well, and the limit shows how much that is.
    let reply = load::one_call(&server.socket(), &usual.calls[0])?;
    let canned = Server::limit(&reply)?;
    let limit = row(&canned, "limit", vec![server::limit_calls(&reply)?]);
    let rows = [usual.clone(), many(usual), limit.clone(), many(&limit)];
    let figures = rounds::measure(&rows, CONNECTIONS, effort(setup))?;
    let name = format!("{MANY_CONNECTIONS} connections");
    Ok(compared(&name, &figures)
        .at_most("CPU ratio", LIMIT)
        .with("limit, CPU us/call", figures[3].cpu)
        .with("limit, usual", figures[2].cpu)
        .with("limit's own ratio", figures[3].cpu / figures[2].cpu)
        .with("bytes/idle conn.", each as f64 / MANY_CONNECTIONS as f64))
}

fn tokens(setup: &Setup<'_>, usual: &Row) -> Result<Finding> {
    let server = Server::runner(setup.runner, setup.plugins, &[], &[])?;
    first_answer(&server)?;
    let before = process::memory(server.pid()).anonymous;
    let mut stream = load::connect(&server.socket())?;
    let started = Instant::now();
    let mut calls = Vec::new();
    for number in 0..TOKENS {
        let token = prepare(&mut stream, number)?;
        if number % (TOKENS / CONNECTIONS) == 0 {
            calls.push(server::calls_of(token, "x-bench")?);
        }
    }
    let each = started.elapsed().as_secs_f64() * 1e6 / TOKENS as f64;
    let memory = process::memory(server.pid())
        .anonymous
        .saturating_sub(before);
    let other = row(&server, "tokens", calls);
    let finding = compare(setup, usual, &other, "100,000 tokens")?;
    Ok(finding
        .at_most("CPU ratio", LIMIT)
        .with("bytes/token", memory as f64 / TOKENS as f64)
        .with("us/PREPARE_CONF", each))
}

fn prepare(stream: &mut UnixStream, number: usize) -> Result<u32> {
    let key = format!("route#{number}#ext-plugin-pre-req#1");
    let payload = prepare_payload(&key, &[("bench-headers", "{}")]);
    load::token_of(&load::ask(stream, &frame(PREPARE_CONF, &payload))?)
}

/// Against ten bindings: with any, a call asks the gateway where it belongs.
fn bindings(setup: &Setup<'_>) -> Result<Finding> {
    let few = bound(setup, 10)?;
    let many = bound(setup, BINDINGS)?;
    let few = row(&few, "few", calls(&few, 1)?);
    let row = row(&many, "many", calls(&many, 1)?);
    let finding = compare(setup, &few, &row, "10,000 bindings against 10")?;
    Ok(finding.at_most("CPU ratio", LIMIT))
}

fn bound(setup: &Setup<'_>, count: usize) -> Result<Server> {
    let mut text = "bindings:\n".to_owned();
    for number in 0..count {
        text += &format!("- {{plugin: bench-headers, scope: {{route: \"r{number}\"}}}}\n");
    }
    let server = Server::runner_with(setup.runner, setup.plugins, &[("bindings.yaml", &text)])?;
    first_answer(&server)?;
    Ok(server)
}

fn plugins(setup: &Setup<'_>, usual: &Row) -> Result<Finding> {
    let folder = many_plugins(setup)?;
    let started = Instant::now();
    let mut server = Server::runner(setup.runner, folder.path(), &[], &[])?;
    first_answer(&server)?;
    let cold = started.elapsed().as_secs_f64() * 1e3;
    server.end()?;
    let started = Instant::now();
    server.start_again()?;
    first_answer(&server)?;
    let cached = started.elapsed().as_secs_f64() * 1e3;
    let memory = process::memory(server.pid());
    let other = row(&server, "plugins", calls(&server, 1)?);
    let finding = compare(setup, usual, &other, "1,000 plugins")?;
    Ok(finding
        .at_most("CPU ratio", LIMIT)
        .with("cold start, ms", cold)
        .with("cached start, ms", cached)
        .with("resident, MB", memory.rss as f64 / 1e6)
        .with("of no file, MB", memory.anonymous as f64 / 1e6))
}

/// The same plugin under as many names, without what debuggers need where this machine can take that out.
fn many_plugins(setup: &Setup<'_>) -> Result<TempDir> {
    let folder = server::folder()?;
    let (name, library) = ("bench-headers", setup.library("bench-headers"));
    let first = folder.path().join("libbench_headers.so");
    fs::copy(&library, &first).with_context(|| library.display().to_string())?;
    // Without the tool they are only larger.
    let _ = Command::new("strip")
        .arg("--strip-debug")
        .arg(&first)
        .status();
    for number in 1..PLUGINS {
        let other = format!("bench-h{number:06}");
        let bytes = patched(&fs::read(&first)?, name.as_bytes(), other.as_bytes())?;
        fs::write(folder.path().join(format!("lib{number}.so")), bytes)?;
    }
    std::thread::park_timeout(Duration::from_secs(1));
    Ok(folder)
}
