//! Percent-encoding in the gateway's flavours: the request path, the path of a rewrite, and query arguments.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, percent_encode};

/// What nginx escapes in a path that it did not get from the client.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
const ARGUMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One query argument: name, and the value (`None` for `?flag`).
pub(super) type Argument = (Vec<u8>, Option<Vec<u8>>);

/// The decoded and normalised path: slashes merged, `.` and `..` resolved. `None`: nginx answers 400
/// (a bad escape, NUL, or `..` above the root).
pub(super) fn decode_path(raw: &[u8]) -> Option<Vec<u8>> {
    if !raw.starts_with(b"/") || !escapes_are_whole(raw) {
        return None;
    }
    let decoded: Vec<u8> = percent_decode(raw).collect();
    if decoded.contains(&0) {
        return None;
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut open_ended = false;
    for segment in decoded.split(|&byte| byte == b'/').skip(1) {
        open_ended = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(segment),
        }
    }
    let mut path = Vec::with_capacity(decoded.len());
    for segment in &segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if open_ended || segments.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

fn escapes_are_whole(raw: &[u8]) -> bool {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return false,
        }
    }
    true
}

/// Encodes a decoded path for the upstream: `?` and `%` are escaped too.
pub(super) fn encode_path(path: &[u8]) -> Vec<u8> {
    percent_encode(path, PATH).to_string().into_bytes()
}

/// Reads a query string: `+` is a space, a bad escape stays as it is, an argument without a name is dropped.
pub(super) fn decode_args(args: &[u8]) -> Vec<Argument> {
    let parts = args.split(|&byte| byte == b'&');
    let named = parts.filter(|part| !part.is_empty() && part[0] != b'=');
    named
        .map(|part| match part.iter().position(|&byte| byte == b'=') {
            Some(at) => (
                decode_argument(&part[..at]),
                Some(decode_argument(&part[at + 1..])),
            ),
            None => (decode_argument(part), None),
        })
        .collect()
}

fn decode_argument(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    percent_decode(&spaced).collect()
}

/// Writes arguments as a query string without `?`.
pub(super) fn encode_args(args: &[Argument]) -> Vec<u8> {
    let encode = |bytes: &[u8]| percent_encode(bytes, ARGUMENT).to_string();
    let parts: Vec<String> = args
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{}={}", encode(name), encode(value)),
            None => encode(name),
        })
        .collect();
    parts.join("&").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_then_normalised() {
        let check = |raw: &str, expected: Option<&str>| {
            assert_eq!(
                decode_path(raw.as_bytes()).as_deref(),
                expected.map(str::as_bytes),
                "{raw}"
            );
        };
        check(
            "/s/a%20b/%41//c/./d/../e;v=1/%2F/",
            Some("/s/a b/A/c/e;v=1/"),
        );
        check("/", Some("/"));
        check("/a/..", Some("/"));
        check("/a/%2e%2e/../b", None);
        check("/%zz", None);
        check("/a%00", None);
    }

    #[test]
    fn arguments_keep_flags_and_bad_escapes() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let args = decode_args(b"a=1+2&c=%zz&d=%&e=x=y&%66=1&flag&&=v&b=");
        let read: Vec<_> = args
            .iter()
            .map(|(name, value)| (text(name), value.as_deref().map(text)))
            .collect();
        let some = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let expected = [
            some("a", "1 2"),
            some("c", "%zz"),
            some("d", "%"),
            some("e", "x=y"),
            some("f", "1"),
            ("flag".to_owned(), None),
            some("b", ""),
        ];
        assert_eq!(read, expected);
    }
}
