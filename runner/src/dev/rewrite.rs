//! What a Rewrite does to a request: path, headers, body, response headers, arguments, in the gateway's order.

use super::headers::{escape_name, escape_value};
use super::percent::{self, Argument};
use super::reply::{Entry, Rewrite};
use super::request::Exchange;
use super::response::{is_excluded, set_or_add};
use super::session::Failure;

/// Applies a rewrite. On a failure what came before it stays applied, as in the gateway.
pub(super) fn apply(exchange: &mut Exchange, rewrite: Rewrite) -> Result<(), Failure> {
    let args_before = percent::decode_args(exchange.args.as_deref().unwrap_or_default());
    let path = rewrite.path.as_deref().map(percent::encode_path);
    if let Some(path) = &path {
        exchange.upstream_uri.clone_from(path);
    }
    for entry in rewrite.headers {
        set_request_header(exchange, entry)?;
    }
    if !rewrite.body.is_empty() {
        exchange
            .headers
            .set("content-length", rewrite.body.len().to_string());
        exchange.body = rewrite.body.into();
    }
    let kept = rewrite
        .resp_headers
        .into_iter()
        .filter(|entry| !is_excluded(entry.name.as_deref()));
    set_or_add(&mut exchange.outgoing, kept)?;
    if !rewrite.args.is_empty() {
        let args = merge(args_before, rewrite.args)?;
        exchange.set_args(percent::encode_args(&args));
    }
    if let Some(mut path) = path {
        append_query(&mut path, exchange.args.as_deref());
        exchange.upstream_uri = path;
    }
    Ok(())
}

/// Adds `?` and the query to a target, if there is one.
pub(super) fn append_query(target: &mut Vec<u8>, args: Option<&[u8]>) {
    if let Some(args) = args {
        target.push(b'?');
        target.extend_from_slice(args);
    }
}

/// The last one of a name wins; an absent or empty value deletes.
fn set_request_header(exchange: &mut Exchange, entry: Entry) -> Result<(), Failure> {
    let name = entry
        .name
        .ok_or_else(|| Failure::Broken("a header without a name".to_owned()))?;
    let name = escape_name(&name.to_ascii_lowercase());
    let value = escape_value(&entry.value.unwrap_or_default());
    if name == b"host" {
        exchange.upstream_host.clone_from(&value);
    }
    if value.is_empty() {
        exchange.headers.remove(&name);
    } else {
        exchange.headers.set(name, value);
    }
    Ok(())
}

/// An absent value deletes, the first one of a name replaces what the client sent, further ones add.
fn merge(mut args: Vec<Argument>, changes: Vec<Entry>) -> Result<Vec<Argument>, Failure> {
    let mut changed: Vec<Vec<u8>> = Vec::new();
    for change in changes {
        let name = change
            .name
            .ok_or_else(|| Failure::Broken("an argument without a name".to_owned()))?;
        let Some(value) = change.value else {
            args.retain(|(had, _)| *had != name);
            continue;
        };
        let last = args.iter().rposition(|(had, _)| *had == name);
        match last {
            Some(last) if changed.contains(&name) => {
                args.insert(last + 1, (name.clone(), Some(value)))
            }
            Some(_) => replace(&mut args, &name, value),
            None => args.push((name.clone(), Some(value))),
        }
        changed.push(name);
    }
    Ok(args)
}

fn replace(args: &mut Vec<Argument>, name: &[u8], value: Vec<u8>) {
    let Some(first) = args.iter().position(|(had, _)| had == name) else {
        return;
    };
    args[first].1 = Some(value);
    let mut index = 0;
    args.retain(|(had, _)| {
        let keep = index <= first || had != name;
        index += 1;
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(client: &str, changes: &[(&str, Option<&str>)], expected: &str) {
        let entries = changes.iter().map(|(name, value)| Entry {
            name: Some(name.as_bytes().to_vec()),
            value: value.map(|value| value.as_bytes().to_vec()),
        });
        let merged = merge(percent::decode_args(client.as_bytes()), entries.collect()).unwrap();
        assert_eq!(
            String::from_utf8(percent::encode_args(&merged)).unwrap(),
            expected
        );
    }

    #[test]
    fn arguments_are_set_added_and_deleted() {
        check(
            "rep=old&del=x&keep=1&flag",
            &[("new", Some("1")), ("rep", Some("c")), ("del", None)],
            "rep=c&keep=1&flag&new=1",
        );
        check(
            "a=0&b=1&a=9",
            &[("a", Some("1")), ("a", Some("2"))],
            "a=1&a=2&b=1",
        );
        check("a=0", &[("a", None), ("a", Some("2"))], "a=2");
        check("b=2", &[("b", None)], "");
        check(
            "",
            &[("k &=", Some("v &=+%/é"))],
            "k%20%26%3D=v%20%26%3D%2B%25%2F%C3%A9",
        );
    }
}
