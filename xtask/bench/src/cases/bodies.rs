//! Large bodies through a plugin that changes them, against a server that reads and writes as many bytes.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::gateway::frame;
use e2e::message::{EXTRA_INFO, HTTP_RESP_CALL, Response, answer_payload};

use super::starts::first_answer;
use super::{Finding, Setup};
use crate::load;
use crate::process;
use crate::rounds::median;
use crate::server::Server;

/// Bytes of a body. The last is the longest that an answer to EXTRA_INFO has room for, with what stands around it.
const SIZES: [usize; 3] = [64 << 10, 1 << 20, (1 << 24) - 64];

/// Replaces the first byte: the reply has a body of its own, as long as the upstream's.
const CONF: &str = r#"{"filters": [{"regex": "\\Ax", "replace": "y"}]}"#;

/// Calls at once, for the memory.
const AT_ONCE: usize = 64;

/// What is sent for a body.
struct Exchange {
    call: Vec<u8>,
    body: Vec<u8>,
}

impl Exchange {
    fn new(token: u32, size: usize) -> Self {
        let headers = [("content-type", "text/plain")];
        let body = vec![b'x'; size];
        Self {
            call: frame(HTTP_RESP_CALL, &Response::new(200, &headers).payload(token)),
            body: frame(EXTRA_INFO, &answer_payload(Some(&body))),
        }
    }

    /// Calls `count` times on a connection of its own; the time of each, in microseconds.
    fn run(&self, socket: &Path, count: usize) -> Result<Vec<f64>> {
        let mut stream = load::connect(socket)?;
        let mut times = Vec::new();
        for _ in 0..count {
            let started = Instant::now();
            let question = load::ask(&mut stream, &self.call)?;
            ensure!(question[0] == EXTRA_INFO, "the body is not asked for");
            let reply = load::ask(&mut stream, &self.body)?;
            ensure!(
                reply[0] == HTTP_RESP_CALL && reply.len() > self.body.len() - 100,
                "the reply has {} bytes and no body",
                reply.len()
            );
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(times)
    }
}

/// Measures all sizes.
///
/// # Errors
/// A call is answered wrongly.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let server = Server::runner(setup.runner, setup.plugins, &[], &[])?;
    first_answer(&server)?;
    let conf = [("response-rewrite".to_owned(), CONF.to_owned())];
    let token = load::prepare(&server.socket(), &conf)?;
    let mut findings = Vec::new();
    for size in SIZES {
        let exchange = Exchange::new(token, size);
        let limit = Server::limit_of_bodies(size)?;
        let count = (200_000_000 / size / 8).clamp(3, 400);
        let (mut ours, mut limits, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        exchange.run(&server.socket(), 40)?;
        for _ in 0..setup.rounds.max(1) {
            let own = median(exchange.run(&server.socket(), count)?);
            let limit = median(exchange.run(&limit.socket(), count)?);
            ours.push(own);
            limits.push(limit);
            ratios.push(own / limit);
        }
        findings.push(
            Finding::new(format!("body of {size} bytes through body_filter"))
                .with("us", median(ours))
                .with("limit, us", median(limits))
                .with("ratio", median(ratios))
                .at_most("ratio", 1.3),
        );
    }
    findings.push(at_once(&server, token)?);
    Ok(findings)
}

fn at_once(server: &Server, token: u32) -> Result<Finding> {
    let exchange = Exchange::new(token, 1 << 20);
    let before = process::memory(server.pid()).anonymous;
    let socket = server.socket();
    let most = thread::scope(|scope| -> Result<u64> {
        let calls = || exchange.run(&socket, 8);
        let callers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(calls)).collect();
        let mut most = 0;
        while !callers.iter().all(thread::ScopedJoinHandle::is_finished) {
            most = most.max(process::memory(server.pid()).anonymous);
            thread::park_timeout(Duration::from_millis(5));
        }
        for caller in callers {
            let ended = caller.join();
            ended.map_err(|_| anyhow::anyhow!("a caller panicked"))??;
        }
        Ok(most)
    })?;
    let mega = |bytes: u64| bytes as f64 / 1e6;
    Ok(Finding::new("64 bodies of 1 MiB at once")
        .with("of no file before, MB", mega(before))
        .with("most, MB", mega(most)))
}
