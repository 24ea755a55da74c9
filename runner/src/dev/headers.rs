//! An ordered list of headers as bytes. It never changes the case of a name and never rejects a value.

/// Header lines in wire order; names compare without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// All lines, first to last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// The first value under `name`.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// Every value under `name`, first to last.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let wanted = name.as_bytes();
        self.iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn add(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Leaves exactly one line under `name`, at the place of the first one if there was any.
    pub(super) fn set(&mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (name, value) = (name.into(), value.into());
        let first = self
            .0
            .iter()
            .position(|(had, _)| had.eq_ignore_ascii_case(&name));
        let Some(first) = first else {
            self.0.push((name, value));
            return;
        };
        self.remove_after(first, &name);
        self.0[first].1 = value;
    }

    pub(super) fn remove(&mut self, name: &[u8]) {
        self.0.retain(|(had, _)| !had.eq_ignore_ascii_case(name));
    }

    fn remove_after(&mut self, first: usize, name: &[u8]) {
        let mut index = 0;
        self.0.retain(|(had, _)| {
            let keep = index <= first || !had.eq_ignore_ascii_case(name);
            index += 1;
            keep
        });
    }
}

/// Escapes what a header name may not hold, as the gateway does: `X Bad:Name` becomes `X%20Bad%3AName`.
pub(super) fn escape_name(name: &[u8]) -> Vec<u8> {
    escape(name, |byte| {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
    })
}

/// Escapes control characters in a header value, as the gateway does; a tab stays.
pub(super) fn escape_value(value: &[u8]) -> Vec<u8> {
    escape(value, |byte| {
        byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
    })
}

fn escape(bytes: &[u8], keep: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if keep(byte) {
            out.push(byte);
        } else {
            out.extend(format!("%{byte:02X}").bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replaces_all_repeats_in_place() {
        let mut headers = Headers::default();
        headers.add("x-m", "1");
        headers.add("host", "h");
        headers.add("X-M", "2");
        headers.set("x-m", "one");
        let lines: Vec<_> = headers.iter().collect();
        assert_eq!(lines, [(&b"x-m"[..], &b"one"[..]), (b"host", b"h")]);
    }

    #[test]
    fn names_and_values_are_escaped_as_the_gateway_does() {
        assert_eq!(escape_name(b"x bad:name"), b"x%20bad%3Aname");
        assert_eq!(escape_value(b"a\r\nX-Evil: 1"), b"a%0D%0AX-Evil: 1");
    }
}
