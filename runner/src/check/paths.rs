//! Folders of the people who built a library, in the texts that it carries.

use std::collections::BTreeSet;

/// Where people have their folders. After some, the person's name follows.
const HOMES: [(&[u8], bool); 3] = [(b"/home/", true), (b"/Users/", true), (b"/root/", false)];

/// Source files below somebody's home.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The homes: `/home/anna`.
    pub(super) homes: BTreeSet<String>,
    /// The files.
    pub(super) files: BTreeSet<String>,
}

/// Looks through the bytes of a section.
pub(super) fn find(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let rest = &bytes[at..];
        let Some((home, named)) = HOMES.iter().find(|(home, _)| rest.starts_with(home)) else {
            continue;
        };
        let after = if *named {
            name_len(&rest[home.len()..])
        } else {
            Some(0)
        };
        let (Some(after), Some(path)) = (after, source_file(rest)) else {
            continue;
        };
        let end = home.len() - 1 + if *named { after + 1 } else { 0 };
        found.homes.insert(path[..end.min(path.len())].to_owned());
        found.files.insert(path.to_owned());
    }
    found
}

/// Bytes of a name that is followed by `/`.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes
        .iter()
        .position(|byte| !is_of_a_path(*byte) || *byte == b'/')?;
    (len > 0 && bytes[len] == b'/').then_some(len)
}

/// The path of a source file at the start; texts of Rust stand close together, without an end between them.
fn source_file(bytes: &[u8]) -> Option<&str> {
    let len = bytes
        .iter()
        .position(|byte| !is_of_a_path(*byte))
        .unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..len]).ok()?;
    let end = [".rs", ".c", ".cpp", ".cc", ".h"]
        .iter()
        .filter_map(|end| Some(text.find(end)? + end.len()))
        .min()?;
    Some(&text[..end])
}

fn is_of_a_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_files_below_homes_are_found_in_texts_without_ends() {
        let text = b"called `x`/home/anna/.cargo/registry/src/a-1.0/src/lib.rs/home/anna/mine/src/lib.rs/rustc/0123/lib.rs/root/p/src/m.rs";
        let found = find(text);
        assert_eq!(
            found.homes.into_iter().collect::<Vec<_>>(),
            ["/home/anna", "/root"]
        );
        assert_eq!(found.files.len(), 3, "{:?}", found.files);
        assert!(found.files.contains("/home/anna/mine/src/lib.rs"));
    }

    #[test]
    fn other_paths_are_nobodys_business() {
        for text in [
            &b"/usr/local/cargo/registry/src/lib.rs"[..],
            b"/home/",
            b"/home//x.rs",
            b"see /home/page for more",
            b"./src/lib.rs",
            b"/rootless/x.rs",
        ] {
            assert_eq!(find(text), Found::default(), "{}", text.escape_ascii());
        }
    }
}
