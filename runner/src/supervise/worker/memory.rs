//! How much memory mapped files take in this process, from /proc/self/smaps.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The name under which the kernel shows what is opened as `path`, a copy in private memory too.
pub(in crate::supervise) fn mapped_name(path: &Path) -> PathBuf {
    let name = fs::read_link(path).unwrap_or_else(|_| path.to_owned());
    without_mark(&name.to_string_lossy()).into()
}

/// Resident bytes of each of these (names as of [`mapped_name`]).
pub(super) fn resident(names: &[PathBuf]) -> HashMap<PathBuf, u64> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut sizes: HashMap<PathBuf, u64> = names.iter().map(|name| (name.clone(), 0)).collect();
    let mut current = None;
    for line in text.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            if let Some(sum) = current.as_ref().and_then(|name| sizes.get_mut(name)) {
                *sum += kilobytes(size) << 10;
            }
        } else if line.starts_with(|first: char| first.is_ascii_hexdigit() && !first.is_uppercase())
        {
            let name = line.find('/').map(|at| without_mark(&line[at..]));
            current = name.map(PathBuf::from);
        }
    }
    sizes
}

/// A file that is removed has a mark behind its name.
fn without_mark(name: &str) -> &str {
    name.strip_suffix(" (deleted)").unwrap_or(name)
}

fn kilobytes(text: &str) -> u64 {
    let number = text.trim().trim_end_matches(" kB");
    number.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_takes_memory_and_another_none() {
        let exe = mapped_name(Path::new("/proc/self/exe"));
        let none = PathBuf::from("/nothing/like/it");
        let sizes = resident(&[exe.clone(), none.clone()]);
        assert!(sizes[&exe] > 4096, "{sizes:?}");
        assert_eq!(sizes[&none], 0);
    }
}
