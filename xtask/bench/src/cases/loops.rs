//! Kinds and numbers of event loops, with the client on a CPU of its own and on the servers' CPUs. All servers but the
//! runner answer without reading the call, so what differs between them is the loop alone.

use std::time::Duration;

use anyhow::Result;

use super::{Finding, Setup, starts};
use crate::echo;
use crate::load;
use crate::process;
use crate::rounds::{self, Effort, Figures, Row};
use crate::server::{self, Server};

const CONNECTIONS: [usize; 6] = [1, 8, 32, 128, 1_000, 5_000];

/// Numbers of event loops of the runner.
const RUNNERS: [(&str, &str); 2] = [("runner, 1 loop", "1"), ("runner, 2 loops", "2")];

/// Which CPUs the client and the servers have.
struct Placement {
    name: &'static str,
    client: Vec<usize>,
    servers: Vec<usize>,
}

/// Measures all of them in turns.
///
/// # Errors
/// A server does not start, or answers wrongly.
pub fn measure(setup: &Setup<'_>) -> Result<Vec<Finding>> {
    let (servers, rows) = start(setup)?;
    let effort = Effort {
        rounds: setup.rounds,
        time: Duration::from_secs_f64(setup.seconds),
    };
    let all = process::cpus()?;
    let mut findings = Vec::new();
    for placement in placements(&all) {
        place(&placement, &rows)?;
        for connections in CONNECTIONS {
            let figures = rounds::measure(&rows, connections, effort)?;
            findings.extend(figures.iter().map(|row| finding(&placement, row)));
        }
    }
    // What is measured after this has the CPUs again.
    process::allow(std::process::id() as i32, &all)?;
    drop(servers);
    Ok(findings)
}

fn start(setup: &Setup<'_>) -> Result<(Vec<Server>, Vec<Row>)> {
    let plugins = setup.ten()?;
    let conf = [("bench-headers".to_owned(), "{}".to_owned())];
    let (mut servers, mut rows) = (Vec::new(), Vec::new());
    let mut reply = Vec::new();
    for (name, loops) in RUNNERS {
        let config = format!("{}worker:\n  event_loops: {loops}\n", server::CONFIG);
        let files = [("config.yaml", config.as_str())];
        let server = Server::runner_with(setup.runner, plugins.path(), &files)?;
        starts::first_answer(&server)?;
        let calls = server::runner_calls(&server.socket(), &conf, "x-bench")?;
        reply = load::one_call(&server.socket(), &calls)?;
        rows.push(row(name, &server, calls));
        servers.push(server);
    }
    let mut echoes = Vec::new();
    for kind in echo::KINDS {
        let server = Server::echo(kind, &reply)?;
        echoes.push(row(kind, &server, server::limit_calls(&reply)?));
        servers.push(server);
    }
    echoes.extend(rows);
    Ok((servers, echoes))
}

fn row(name: &str, server: &Server, calls: load::Calls) -> Row {
    Row {
        name: name.to_owned(),
        socket: server.socket(),
        pid: server.pid(),
        calls: vec![calls],
        connections: None,
    }
}

/// Those that this machine has CPUs for.
fn placements(all: &[usize]) -> Vec<Placement> {
    let place = |name, client: &[usize], servers: &[usize]| Placement {
        name,
        client: client.to_vec(),
        servers: servers.to_vec(),
    };
    let mut placements = Vec::new();
    if let [client, server, ..] = all {
        placements.push(place("beside", &[*client], &[*server]));
        placements.push(place("anywhere", all, all));
    }
    let one = &all[all.len().saturating_sub(1)..];
    placements.push(place("on one CPU", one, one));
    placements
}

fn place(placement: &Placement, rows: &[Row]) -> Result<()> {
    // The servers are below us in the tree.
    process::allow(std::process::id() as i32, &placement.client)?;
    for row in rows {
        process::allow(row.pid, &placement.servers)?;
    }
    Ok(())
}

fn finding(placement: &Placement, row: &Figures) -> Finding {
    let (at, connections, name) = (placement.name, row.connections, &row.name);
    let mut finding = Finding::new(format!("{at:<10} {connections:>5} {name}"))
        .with("calls/s", row.rate)
        .with("CPU us", row.cpu)
        .with("p99 us", row.p99)
        .with("ratios: calls/s", row.rate_ratio)
        .with("CPU", row.cpu_ratio)
        .with("p99", row.p99_ratio);
    finding.in_a_line = true;
    finding
}
