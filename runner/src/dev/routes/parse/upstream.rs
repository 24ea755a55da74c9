//! The nodes of an upstream, in both of APISIX's forms.

use saphyr::MarkedYaml;

use super::not_imitated;
use crate::dev::routes::yaml::{Report, line};

pub(super) fn read_upstream(node: &MarkedYaml<'_>, report: &mut Report) -> Vec<(String, u32)> {
    let mut nodes = Vec::new();
    for field in report.fields(node, "`upstream`") {
        match field.name.as_str() {
            "type" => {
                let kind = report.text(field.value, "`type`");
                if kind.is_some_and(|kind| kind != "roundrobin") {
                    report.warning(field.line, "the local gateway balances `roundrobin` only");
                }
            }
            "nodes" if field.value.data.is_sequence() => {
                for item in report.items(field.value, "`nodes`") {
                    nodes.extend(read_node(item, report));
                }
            }
            "nodes" => {
                for node in report.fields(field.value, "`nodes`") {
                    let weight = report.integer(node.value, "a node's weight");
                    nodes.extend(
                        weight.and_then(|weight| with_port(node.name, weight, node.line, report)),
                    );
                }
            }
            other => not_imitated(other, field.line, report),
        }
    }
    nodes
}

fn read_node(node: &MarkedYaml<'_>, report: &mut Report) -> Option<(String, u32)> {
    let (mut host, mut port, mut weight) = (None, 80, Some(1));
    for field in report.fields(node, "a node") {
        match field.name.as_str() {
            "host" => host = report.text(field.value, "`host`"),
            "port" => port = report.integer(field.value, "`port`").unwrap_or(port),
            "weight" => weight = report.integer(field.value, "`weight`"),
            other => not_imitated(other, field.line, report),
        }
    }
    let Some(host) = host else {
        report.fault(line(node), "a node needs a `host`");
        return None;
    };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    with_port(format!("{host}:{port}"), weight?, line(node), report)
}

fn with_port(
    address: String,
    weight: i64,
    line: usize,
    report: &mut Report,
) -> Option<(String, u32)> {
    let Ok(weight) = u32::try_from(weight) else {
        report.fault(
            line,
            format!("the weight {weight} of node `{address}` must be 0 or more"),
        );
        return None;
    };
    let after_host = address.rsplit(']').next().unwrap_or_default();
    let address = match after_host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => address,
        Some((_, port)) => {
            report.fault(line, format!("`{port}` is no port number"));
            return None;
        }
        None => format!("{address}:80"),
    };
    Some((address, weight))
}
