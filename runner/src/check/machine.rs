//! What this machine has: the libraries of this very process, which the worker has too, and those in the usual folders.
//! Opens files to read them, and none as code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use object::ReadCache;

use crate::plugins::elf::dynamic::Dynamic;

/// The libraries of this process.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// By their name for others.
    libraries: BTreeMap<String, Dynamic>,
}

impl Machine {
    /// Reads what is mapped into this process.
    pub(super) fn here() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let files = maps
            .lines()
            .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])));
        let files: BTreeSet<_> = files.collect();
        let mut machine = Self::default();
        for file in files {
            machine.add(&file);
        }
        machine
    }

    fn add(&mut self, file: &Path) -> Option<()> {
        let found = read(file)?;
        let name = file.file_name()?.to_string_lossy().into_owned();
        let name = found.soname.clone().unwrap_or(name);
        self.libraries.insert(name, found);
        Some(())
    }

    /// Whether a shared library is here; looks for it in the usual folders and these.
    pub(super) fn has(&mut self, name: &str, runpath: &[String]) -> bool {
        if self.libraries.contains_key(name) {
            return true;
        }
        let own = runpath
            .iter()
            .filter(|folder| folder.starts_with('/'))
            .map(PathBuf::from);
        let found = own
            .chain(folders())
            .find_map(|folder| read(&folder.join(name)));
        match found {
            Some(found) => self.libraries.insert(name.to_owned(), found).is_none(),
            None => false,
        }
    }

    /// Whether a shared library that is here offers a version of its symbols.
    pub(super) fn offers(&self, library: &str, version: &str) -> bool {
        let library = self.libraries.get(library);
        library.is_none_or(|library| library.versions_offered.contains(version))
    }

    /// The versions that a library offers.
    pub(super) fn versions(&self, library: &str) -> impl Iterator<Item = &str> {
        let library = self.libraries.get(library);
        library
            .into_iter()
            .flat_map(|library| &library.versions_offered)
            .map(String::as_str)
    }

    /// Who in this process has a symbol of this name.
    pub(super) fn exports(&self, symbol: &str) -> Option<&str> {
        let has = |library: &Dynamic| library.exported.iter().any(|own| own.name == symbol);
        let found = self.libraries.iter().find(|(_, library)| has(library));
        found.map(|(name, _)| name.as_str())
    }
}

fn read(file: &Path) -> Option<Dynamic> {
    let file = File::open(file).ok()?;
    Dynamic::read(&ReadCache::new(file)).ok()
}

/// Where the dynamic linker looks: as it is told, as the system is set up, and as it always does.
fn folders() -> Vec<PathBuf> {
    let told = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let told = told
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from);
    let mut all: Vec<_> = told.collect();
    let more = fs::read_dir("/etc/ld.so.conf.d")
        .into_iter()
        .flatten()
        .flatten();
    let files = more
        .map(|entry| entry.path())
        .chain([PathBuf::from("/etc/ld.so.conf")]);
    for file in files {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with('/'));
        all.extend(lines.map(PathBuf::from));
    }
    let arch = std::env::consts::ARCH;
    all.extend(
        [
            &format!("/lib/{arch}-linux-gnu"),
            &format!("/usr/lib/{arch}-linux-gnu"),
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ]
        .map(PathBuf::from),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_here_and_a_made_up_one_is_not() {
        let mut machine = Machine::here();
        assert!(machine.has("libc.so.6", &[]));
        assert!(!machine.has("libnobody-has-this.so.9", &["/nowhere".to_owned()]));
        assert!(
            machine.offers("libc.so.6", "GLIBC_2.17") || machine.offers("libc.so.6", "GLIBC_2.2.5")
        );
        assert!(!machine.offers("libc.so.6", "GLIBC_2.999"));
        assert_eq!(machine.exports("getpid"), Some("libc.so.6"));
        assert_eq!(machine.exports("plugin_runner_header"), None);
    }
}
