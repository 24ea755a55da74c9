//! The variables that a runner can ask for by name, as the gateway answers them.

use std::time::{SystemTime, UNIX_EPOCH};

use super::percent;
use super::request::Exchange;

/// The value of a variable; `None`: the gateway has none of that name.
pub(super) fn value(exchange: &Exchange, name: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(name).ok()?;
    prefixed(exchange, name).unwrap_or_else(|| plain(exchange, name))
}

/// `None` if the name has no prefix that stands for a family of variables.
fn prefixed(exchange: &Exchange, name: &str) -> Option<Option<Vec<u8>>> {
    if let Some(key) = name.strip_prefix("http_") {
        return Some(header(
            exchange,
            &key.to_ascii_lowercase().replace('-', "_"),
        ));
    }
    if let Some(key) = name.strip_prefix("arg_") {
        return Some(argument(exchange.args.as_deref()?, key));
    }
    if let Some(key) = name.strip_prefix("cookie_") {
        return Some(cookie(exchange, key));
    }
    let key = name.strip_prefix("post_arg_")?;
    let form = exchange.headers.get("content-type");
    let form = form.is_some_and(|kind| kind.starts_with(b"application/x-www-form-urlencoded"));
    Some(form.then(|| argument(&exchange.body, key)).flatten())
}

/// Repeats are joined with ", "; an underscore in the name stands for a dash or itself.
fn header(exchange: &Exchange, key: &str) -> Option<Vec<u8>> {
    let same = |name: &[u8]| {
        name.iter()
            .map(|&byte| if byte == b'-' { b'_' } else { byte })
            .eq(key.bytes())
    };
    let values: Vec<&[u8]> = exchange
        .headers
        .iter()
        .filter(|(name, _)| same(name))
        .map(|(_, value)| value)
        .collect();
    let separator: &[u8] = if key == "cookie" { b"; " } else { b", " };
    (!values.is_empty()).then(|| values.join(separator))
}

/// The first value under a name; a flag reads as `true`.
fn argument(args: &[u8], key: &str) -> Option<Vec<u8>> {
    let found = percent::decode_args(args)
        .into_iter()
        .find(|(name, _)| name == key.as_bytes())?;
    Some(found.1.unwrap_or_else(|| b"true".to_vec()))
}

fn cookie(exchange: &Exchange, key: &str) -> Option<Vec<u8>> {
    let lines = exchange
        .headers
        .all("cookie")
        .flat_map(|line| line.split(|&byte| byte == b';'));
    let mut pairs = lines.filter_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    });
    pairs
        .find(|(name, _)| *name == key.as_bytes())
        .map(|(_, value)| value.to_vec())
}

fn plain(exchange: &Exchange, name: &str) -> Option<Vec<u8>> {
    let text = |text: &str| Some(text.as_bytes().to_vec());
    match name {
        "args" | "query_string" => exchange.args.clone(),
        "is_args" => text(if exchange.args.is_some() { "?" } else { "" }),
        "uri" | "document_uri" => Some(exchange.uri.clone()),
        "request_uri" | "real_request_uri" => Some(exchange.target.clone()),
        "upstream_uri" => Some(exchange.upstream_uri.clone()),
        "upstream_host" => Some(exchange.upstream_host.clone()),
        "host" => Some(host(exchange)),
        "method" | "request_method" => text(&exchange.method),
        "scheme" | "upstream_scheme" => text("http"),
        "https" => text(""),
        // No status is set before the response, not even in ext-plugin-post-resp.
        "status" => text("0"),
        "request_id" | "apisix_request_id" => text(&exchange.request_id),
        "request_length" => text(&exchange.request_length.to_string()),
        "route_id" => text(&exchange.route.id),
        "route_name" => exchange.route.name.clone().map(String::into_bytes),
        "service_id" => exchange
            .route
            .service
            .as_ref()
            .map(|service| service.clone().into_bytes()),
        "server_protocol" => text(exchange.protocol),
        "content_type" => exchange.headers.get("content-type").map(<[u8]>::to_vec),
        "content_length" => exchange.headers.get("content-length").map(<[u8]>::to_vec),
        "pid" => text(&std::process::id().to_string()),
        _ => address_or_time(exchange, name),
    }
}

fn address_or_time(exchange: &Exchange, name: &str) -> Option<Vec<u8>> {
    let text = match name {
        "remote_addr" => exchange.remote_addr.to_string(),
        "realip_remote_addr" => exchange.peer.ip().to_string(),
        "remote_port" | "realip_remote_port" => exchange.peer.port().to_string(),
        "server_addr" => exchange.local.ip().to_string(),
        "server_port" => exchange.local.port().to_string(),
        "msec" => {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            format!("{}.{:03}", now.as_secs(), now.subsec_millis())
        }
        _ => return None,
    };
    Some(text.into_bytes())
}

/// The host without its port, in lower case; `_` if the client named none.
fn host(exchange: &Exchange) -> Vec<u8> {
    let Some(host) = exchange.headers.get("host") else {
        return b"_".to_vec();
    };
    let end = host
        .iter()
        .rposition(|&byte| byte == b':')
        .filter(|&at| !host[at..].contains(&b']'));
    host[..end.unwrap_or(host.len())].to_ascii_lowercase()
}
