//! What a gateway would mistreat, as pure checks: the runner and the test kit use the same ones. Never touches
//! a call.
//!
//! Each check says why it refuses, for the plugin's author. Facts about the gateway are APISIX's (3.9 to 3.18).

use crate::abi::numbers::edit;

/// `Err` is the reason: lower case, names the thing, the cause and the way out.
pub type Checked = Result<(), String>;

/// Longest body that can go into a frame of the gateway's protocol: its length field has 24 bits.
pub const MAX_BODY: usize = (1 << 24) - 1;

/// Headers that belong to one connection and not to the message. Lower case.
pub const HOP_BY_HOP: [&str; 7] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the gateway drops from headers that a request call sends to the client beside the upstream's. Lower case.
pub const NOT_BESIDE: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-type",
    "location",
    "server",
    "transfer-encoding",
    "www-authenticate",
];

/// Whether `name`, in any case, is one of `names`.
pub fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a header belongs to the connection: it is never passed on.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    is_one_of(name, &HOP_BY_HOP)
}

/// A header's name is a token (RFC 9110, 5.6.2).
#[inline]
pub fn header_name(name: &[u8]) -> Checked {
    match are_tokens(name) && !name.is_empty() {
        true => Ok(()),
        false => Err(no_header_name(name)),
    }
}

#[inline]
fn are_tokens(name: &[u8]) -> bool {
    // All bytes, without a way out in between: that takes fewer steps for names as they are.
    name.iter().fold(true, |all, byte| all & is_token(*byte))
}

#[cold]
fn no_header_name(name: &[u8]) -> String {
    match name.iter().find(|byte| !is_token(**byte)) {
        None => "a header needs a name".to_owned(),
        Some(byte) => format!(
            "{} is no header name: it contains `{}`",
            quoted(name),
            [*byte].escape_ascii()
        ),
    }
}

/// A header's value has no CR, LF or NUL: they would end the header.
#[inline]
pub fn header_value(name: &[u8], value: &[u8]) -> Checked {
    match has_end(value) {
        false => Ok(()),
        true => Err(no_header_value(name, value)),
    }
}

#[inline]
fn has_end(value: &[u8]) -> bool {
    // As with names: the compiler takes sixteen at a time then.
    value.iter().fold(false, |any, byte| any | ends_it(*byte))
}

#[cold]
fn no_header_value(name: &[u8], value: &[u8]) -> String {
    let byte = value.iter().copied().find(|byte| ends_it(*byte));
    format!(
        "the value of header {} contains `{}`, which cannot stand in HTTP",
        quoted(name),
        [byte.unwrap_or_default()].escape_ascii()
    )
}

#[inline]
const fn ends_it(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | 0)
}

/// The path that the upstream gets.
pub fn path(path: &[u8]) -> Checked {
    if !path.starts_with(b"/") {
        return Err(format!(
            "the path {} does not start with `/`: the gateway would glue it to the upstream's host name",
            quoted(path)
        ));
    }
    if path.contains(&0) {
        return Err(format!("the path {} contains a NUL", quoted(path)));
    }
    Ok(())
}

/// The status of a response.
pub fn status(status: u16) -> Checked {
    match status {
        200..=599 => Ok(()),
        100..=199 => Err(format!(
            "status {status} is not final: the gateway would drop the client; use 200 to 599"
        )),
        _ => Err(format!("{status} is no status of HTTP: use 200 to 599")),
    }
}

/// The status of an answer that ends the chain: 0 stands for the gateway's own default.
pub fn answer_status(status: u16) -> Checked {
    match status {
        0 => Ok(()),
        status => self::status(status),
    }
}

/// Whether [`request_header_edit`] lets a header be set for certain: true of nearly all, and told in fewer steps.
#[inline]
pub fn is_plain_header(name: &[u8], value: &[u8]) -> bool {
    let [first, ..] = name else {
        return false;
    };
    !may_be_the_connections(*first) && are_tokens(name) && !value.is_empty() && !has_end(value)
}

/// A change of a header on its way to the upstream. `values`: how many the name has now.
#[inline]
pub fn request_header_edit(edit: u32, name: &[u8], value: &[u8], values: usize) -> Checked {
    header_name(name)?;
    not_the_connections(name, "a request")?;
    match edit {
        edit::REMOVE if is_one_of(name, &["host"]) => Err(host_stays()),
        edit::REMOVE => Ok(()),
        edit::ADD if values > 0 => Err(one_value_only(name)),
        _ if value.is_empty() => Err(value_needed(name)),
        _ => header_value(name, value),
    }
}

#[cold]
fn host_stays() -> String {
    "header `host` cannot be removed: the upstream would answer 400; set it".to_owned()
}

#[cold]
fn one_value_only(name: &[u8]) -> String {
    format!(
        "header {} has a value already and the gateway keeps only the last of several: set one value, joined with \
         commas where the header allows it",
        quoted(name)
    )
}

#[cold]
fn value_needed(name: &[u8]) -> String {
    format!(
        "header {} has no value: the gateway would delete the header; use remove_header",
        quoted(name)
    )
}

/// A change of a header of the upstream's response.
pub fn response_header_edit(edit: u32, name: &[u8], value: &[u8]) -> Checked {
    header_name(name)?;
    if edit == edit::REMOVE {
        return Ok(());
    }
    not_the_connections(name, "a response")?;
    sent_value(name, value)
}

/// A header of an answer that ends the chain.
pub fn answer_header(name: &[u8], value: &[u8]) -> Checked {
    header_name(name)?;
    not_the_connections(name, "an answer")?;
    sent_value(name, value)
}

/// A change, in a request call, of a header that goes to the client beside the upstream's.
pub fn beside_header_edit(edit: u32, name: &[u8], value: &[u8]) -> Checked {
    header_name(name)?;
    if edit == edit::REMOVE {
        return Ok(());
    }
    if is_one_of(name, &NOT_BESIDE) {
        return Err(format!(
            "the gateway drops header {} on a response when a request's phase sets it: change it in header_filter",
            quoted(name)
        ));
    }
    not_the_connections(name, "a response")?;
    sent_value(name, value)
}

/// The body that the upstream gets.
pub fn request_body(body: &[u8]) -> Checked {
    if body.is_empty() {
        return Err("an empty request body cannot be sent: the gateway ignores it".to_owned());
    }
    body_len(body)
}

/// The body that the client gets instead of the upstream's.
pub fn response_body(body: &[u8]) -> Checked {
    if body.is_empty() {
        return Err(
            "an empty response body cannot be sent: the gateway would send the upstream's"
                .to_owned(),
        );
    }
    body_len(body)
}

/// The body of an answer to a request; it may be empty. In a response call [`response_body`] holds.
pub fn request_answer_body(body: &[u8]) -> Checked {
    body_len(body)
}

/// An argument's name.
pub fn arg_name(name: &[u8]) -> Checked {
    not_empty("an argument", name)
}

/// A consumer's name, a credential's id, a group, or the key of a value: `what` says which, as in `a group`.
pub fn not_empty(what: &str, name: &[u8]) -> Checked {
    match name {
        [] => Err(format!("{what} needs a name")),
        _ => Ok(()),
    }
}

fn body_len(body: &[u8]) -> Checked {
    match body.len() {
        0..=MAX_BODY => Ok(()),
        len => Err(format!(
            "a body of {len} bytes is too large: the gateway's protocol carries {MAX_BODY} at most"
        )),
    }
}

#[inline]
fn not_the_connections(name: &[u8], message: &str) -> Checked {
    // One look at the first letter spares most names the rest.
    match name.first() {
        Some(first) if may_be_the_connections(*first) => is_not_the_connections(name, message),
        _ => Ok(()),
    }
}

#[inline(never)]
fn is_not_the_connections(name: &[u8], message: &str) -> Checked {
    if is_one_of(name, &["content-length"]) {
        return Err(format!(
            "`content-length` of {message} is the gateway's business: it would trust a wrong one"
        ));
    }
    if is_hop_by_hop(name) {
        return Err(format!(
            "header {} of {message} belongs to the connection, which is the gateway's business",
            quoted(name)
        ));
    }
    Ok(())
}

/// Whether `content-length` or a name of [`HOP_BY_HOP`] starts with this letter.
const fn may_be_the_connections(first: u8) -> bool {
    matches!(first | 0x20, b'c' | b'k' | b'p' | b't' | b'u')
}

const _: () = {
    let mut at = 0;
    while at < HOP_BY_HOP.len() {
        assert!(may_be_the_connections(HOP_BY_HOP[at].as_bytes()[0]));
        at += 1;
    }
};

fn sent_value(name: &[u8], value: &[u8]) -> Checked {
    if value.is_empty() {
        return Err(format!(
            "header {} has no value: the gateway would not send it",
            quoted(name)
        ));
    }
    header_value(name, value)
}

#[inline]
fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = {
        let mut token = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            token[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        let mut others: &[u8] = b"!#$%&'*+-.^_`|~";
        while let [byte, rest @ ..] = others {
            token[*byte as usize] = true;
            others = rest;
        }
        token
    };
    TOKEN[usize::from(byte)]
}

/// In backticks, at most 80 bytes of it: the reason goes into a log line.
fn quoted(bytes: &[u8]) -> String {
    let (shown, dots) = match bytes.get(..80) {
        Some(head) if bytes.len() > 80 => (head, "…"),
        _ => (bytes, ""),
    };
    format!("`{}{dots}`", shown.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(checked: Checked, why: &str) {
        let reason = checked.unwrap_err();
        assert!(reason.contains(why), "{reason}");
    }

    #[test]
    fn a_header_name_is_a_token() {
        for good in ["x", "X-Resp-A6-Runner", "sec_ch~!#$%&'*+.^`|"] {
            assert_eq!(header_name(good.as_bytes()), Ok(()), "{good}");
        }
        refused(header_name(b""), "needs a name");
        refused(header_name(b"x y"), "`x y` is no header name");
        refused(header_name(b"x\r\ny"), r"contains `\r`");
        refused(header_name(b"x:"), "contains `:`");
        refused(header_name("ü".as_bytes()), r"contains `\xc3`");
    }

    #[test]
    fn a_header_value_may_be_any_bytes_but_what_ends_the_header() {
        assert_eq!(header_value(b"x", b"caf\xe9 \t\x01"), Ok(()));
        for bad in [&b"a\rb"[..], b"a\nb", b"a\0b"] {
            refused(header_value(b"x", bad), "value of header `x` contains");
        }
    }

    #[test]
    fn a_path_cannot_change_the_upstreams_host() {
        assert_eq!(path(b"/a b?c\xff"), Ok(()));
        for bad in ["", "x", "@evil/", ".evil.test/"] {
            refused(path(bad.as_bytes()), "does not start with `/`");
        }
        refused(path(b"/a\0"), "NUL");
    }

    #[test]
    fn a_status_is_final() {
        assert_eq!((status(200), status(599)), (Ok(()), Ok(())));
        assert_eq!((answer_status(0), answer_status(404)), (Ok(()), Ok(())));
        refused(status(100), "drop the client");
        for bad in [0, 99, 600, 65535] {
            refused(status(bad), "use 200 to 599");
        }
        refused(answer_status(199), "not final");
    }

    #[test]
    fn a_request_keeps_its_host_and_what_frames_it() {
        let (set, add, remove) = (edit::SET, edit::ADD, edit::REMOVE);
        assert_eq!(request_header_edit(set, b"Host", b"a", 1), Ok(()));
        assert_eq!(request_header_edit(remove, b"x", b"", 1), Ok(()));
        assert_eq!(request_header_edit(add, b"x", b"1", 0), Ok(()));
        refused(request_header_edit(remove, b"HOST", b"", 1), "400");
        refused(request_header_edit(set, b"x", b"", 0), "use remove_header");
        refused(request_header_edit(add, b"x", b"2", 1), "only the last");
        for name in ["Content-Length", "transfer-encoding", "Connection", "te"] {
            refused(
                request_header_edit(set, name.as_bytes(), b"1", 0),
                "the gateway's business",
            );
            refused(
                request_header_edit(remove, name.as_bytes(), b"", 1),
                "the gateway's business",
            );
        }
    }

    #[test]
    fn what_is_plain_may_be_set_and_nearly_all_is_plain() {
        let names = ["x", "X-Resp", "te", "TE", "cookie", "Host", "", "x y", "x:"];
        for name in names.map(str::as_bytes) {
            for value in [&b"1"[..], b"", b"a\nb", b"\xff", &[b'v'; 100], &[0; 20]] {
                let allowed = request_header_edit(edit::SET, name, value, 1).is_ok();
                assert!(allowed || !is_plain_header(name, value), "{name:?}");
            }
        }
        assert!(is_plain_header(b"X-Resp", b"1") && is_plain_header(b"host", b"\xff"));
    }

    #[test]
    fn a_response_may_lose_any_header_but_not_gain_the_connections() {
        assert_eq!(
            response_header_edit(edit::REMOVE, b"content-length", b""),
            Ok(())
        );
        assert_eq!(
            response_header_edit(edit::SET, b"Content-Type", b"a/b"),
            Ok(())
        );
        refused(
            response_header_edit(edit::ADD, b"x", b""),
            "would not send it",
        );
        refused(
            response_header_edit(edit::SET, b"Upgrade", b"h2c"),
            "belongs to the connection",
        );
        refused(answer_header(b"content-length", b"1"), "trust a wrong one");
        refused(answer_header(b"x", b"a\nb"), "cannot stand in HTTP");
    }

    #[test]
    fn what_the_gateway_drops_beside_the_upstreams_headers_is_refused() {
        assert_eq!(beside_header_edit(edit::ADD, b"Set-Cookie", b"a=1"), Ok(()));
        for name in NOT_BESIDE {
            refused(
                beside_header_edit(edit::SET, name.as_bytes(), b"1"),
                "change it in header_filter",
            );
        }
        refused(
            beside_header_edit(edit::SET, b"keep-alive", b"1"),
            "belongs to the connection",
        );
    }

    #[test]
    fn a_body_is_neither_empty_nor_longer_than_a_frame() {
        assert_eq!(request_body(b"a"), Ok(()));
        assert_eq!(request_answer_body(b""), Ok(()));
        refused(request_body(b""), "the gateway ignores it");
        refused(response_body(b""), "would send the upstream's");
        assert_eq!(response_body(&vec![0; MAX_BODY]), Ok(()));
        refused(request_answer_body(&vec![0; MAX_BODY + 1]), "too large");
    }

    #[test]
    fn a_reason_stays_short() {
        assert!(path(&[b'x'; 1000]).unwrap_err().len() < 200);
        refused(arg_name(b""), "an argument needs a name");
    }
}
