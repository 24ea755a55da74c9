//! Whether the project's pages point at what is there: relative links of `.md` files. Reads, changes nothing; no network.

use std::path::Path;

/// The links of a page that lead nowhere, as what to do. `page` is where it lies.
pub(crate) fn dead(page: &Path, text: &str) -> Vec<String> {
    let folder = page.parent().unwrap_or(page);
    targets(text)
        .filter(|target| !folder.join(target).exists())
        .map(|target| format!("`{target}` is not there: correct the link"))
        .collect()
}

/// What links lead to, without what lies elsewhere: addresses, parts of the same page, items of rustdoc.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let starts = text
        .match_indices("](")
        .map(|(at, mark)| &text[at + mark.len()..]);
    starts
        .filter_map(|rest| rest.split_once([')', '\n']))
        .filter_map(|(target, _)| target.split('#').next())
        .filter(|target| !target.is_empty() && !target.contains("::") && !target.contains(' '))
        .filter(|target| !target.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_that_are_not_there_are_dead() {
        let here = crate::cargo::root().join("xtask/src/page.md");
        let text = "[a](links.rs) [b](https://x/y) [c](#part) [d](crate::Next) [e](links.rs#part) [f](gone.rs)";
        assert_eq!(
            dead(&here, text),
            ["`gone.rs` is not there: correct the link"]
        );
    }
}
