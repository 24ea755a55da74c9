//! Which mappings of this process are parts of files that it has not changed, from /proc/self/smaps.

use std::io::BufRead;
use std::ops::Range;

/// Addresses of private mappings of files that cannot be written, with no page that differs from the file: no relocated
/// one, none with a breakpoint.
pub(super) fn untouched(maps: impl BufRead) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in maps.lines().map_while(Result::ok) {
        if let Some(mapping) = mapping(&line) {
            current = mapping;
        } else if let Some(size) = line.strip_prefix("Anonymous:") {
            let mapping = current.take();
            found.extend(mapping.filter(|_| size.trim() == "0 kB"));
        }
    }
    found
}

/// What the line that begins a mapping says of it: `None` if it is another line, `Some(None)` if it is not of interest.
fn mapping(line: &str) -> Option<Option<Range<usize>>> {
    // 7f0a1c000000-7f0a1c021000 r-xp 00000000 fd:01 1234   /usr/lib/some.so
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let rights = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    let of_interest = ["r-xp", "r--p"].contains(&rights) && path.starts_with('/');
    Some(of_interest.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_found() {
        let maps = "\
1000-2000 r-xp 00000000 fd:01 12   /usr/bin/some thing
Anonymous:             0 kB
2000-3000 r--p 00001000 fd:01 12   /usr/bin/some thing (deleted)
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-4000 r--p 00002000 fd:01 12   /relocated
Anonymous:             4 kB
4000-5000 rw-p 00002000 fd:01 12   /data
Anonymous:             0 kB
5000-6000 r-xs 00002000 fd:01 12   /shared
Anonymous:             0 kB
6000-7000 r--p 00000000 00:00 0
Anonymous:             0 kB
7000-8000 r-xp 00000000 00:00 0    [vdso]
Anonymous:             0 kB
8000-9000 r-xp 00000000 fd:01 12   /broken off
";
        assert_eq!(untouched(maps.as_bytes()), [0x1000..0x2000, 0x2000..0x3000]);
    }

    #[test]
    fn this_program_has_such_mappings() {
        let maps = std::fs::read("/proc/self/smaps").unwrap();
        let here = this_program_has_such_mappings as *const () as usize;
        let found = untouched(&*maps);
        assert!(found.iter().any(|mapping| mapping.contains(&here)));
    }
}
