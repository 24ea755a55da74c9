//! What the bytes of a file say, and what the configuration says to it. Runs nothing.

use std::fs;
use std::io;
use std::path::Path;

use plugin_api::abi::metadata::{HEADER_SYMBOL, SECTION};
use plugin_api::abi::{ABI_MAJOR, ABI_MINOR};
use sha2::Digest;

use super::finding::{Finding, Level};
use super::glibc::Glibc;
use super::machine::Machine;
use super::{Options, Report, kinds, paths};
use crate::plugins::elf::dynamic::Dynamic;
use crate::plugins::elf::{self, ElfError};
use crate::plugins::metadata::{Metadata, Unfit};
use crate::supervise::fingerprint::Trust;
use crate::supervise::workshop::Sha256;

/// Names that are told of many.
const TOLD: usize = 4;
/// Debug information beyond this, and beyond half of the file, is worth a note.
const LARGE: u64 = 4 << 20;

/// The bytes of a file; `None` if there are none, with a finding.
pub(super) fn read(file: &Path, report: &mut Report) -> Option<Vec<u8>> {
    let bytes = fs::metadata(file).and_then(|metadata| match () {
        () if metadata.is_dir() => Err(io::Error::other("is a folder")),
        () if !metadata.is_file() => Err(io::Error::other("is no file")),
        () => fs::read(file),
    });
    match bytes {
        Ok(bytes) => {
            report.size = bytes.len() as u64;
            report.sha256 = Sha256(sha2::Sha256::digest(&bytes).into()).to_string();
            Some(bytes)
        }
        Err(cause) => {
            report.add(Finding::new(&kinds::UNREADABLE, cause.to_string()));
            None
        }
    }
}

/// Reads everything. Returns whether it may be a plugin at all.
pub(super) fn describe(bytes: &[u8], options: &Options, report: &mut Report) -> bool {
    let foreign = match elf::check(bytes) {
        Ok(()) => false,
        Err(error) => {
            // Of 32 bits, or cut short: then nothing is known of it, not even whether it has metadata.
            let is_readable = Dynamic::read(bytes).is_ok();
            if !matches!(error, ElfError::Machine { .. }) || !is_readable {
                report.add(of_elf(&error, None));
                return false;
            }
            report.add(of_elf(&error, Some(options)));
            true
        }
    };
    metadata(bytes, options, report);
    let Ok(dynamic) = Dynamic::read(bytes) else {
        return true;
    };
    report.is_read = true;
    report.debug_info = dynamic.debug_info;
    report.needed = dynamic.needed.clone();
    report.exported = dynamic.exported.iter().map(|it| it.name.clone()).collect();
    if report.abi.is_some() && !report.exported.iter().any(|name| name == HEADER_SYMBOL) {
        let what = format!("it does not export `{HEADER_SYMBOL}`");
        report.add(Finding::new(&kinds::NO_HEADER, what));
    }
    linker(&dynamic, foreign, options, report);
    shape(bytes, &dynamic, report);
    true
}

/// With `options`, a file for another machine may be looked at from here.
fn of_elf(error: &ElfError, options: Option<&Options>) -> Finding {
    let kind = match error {
        ElfError::NotElf => &kinds::NOT_ELF,
        ElfError::Truncated { .. } => &kinds::TRUNCATED,
        ElfError::Machine { .. } => &kinds::MACHINE,
        ElfError::NotLibrary(_) => &kinds::NOT_LIBRARY,
        ElfError::Damaged(_) => &kinds::DAMAGED,
    };
    let finding = Finding::new(kind, error.to_string());
    match error {
        ElfError::Machine { .. } if options.is_some_and(|options| options.metadata_only) => {
            finding.at(Level::Note)
        }
        _ => finding,
    }
}

fn metadata(bytes: &[u8], options: &Options, report: &mut Report) {
    let section = elf::section(bytes, SECTION).unwrap_or_default();
    let metadata = match Metadata::read(section) {
        Ok(metadata) => metadata,
        Err(unfit) => return report.add(of_metadata(&unfit, options)),
    };
    let (major, minor) = metadata.abi;
    report.abi = Some(format!("{major}.{minor}"));
    report.panic = Some(if metadata.unwinds { "unwind" } else { "abort" });
    if let Err(unfit) = metadata.check() {
        report.add(of_metadata(&unfit, options));
    }
    if minor > ABI_MINOR {
        let what = format!(
            "it was built for plugin ABI {major}.{minor}, this runner has {ABI_MAJOR}.{ABI_MINOR}"
        );
        report.add(Finding::new(&kinds::ABI_NEWER, what));
    }
    report.plugin_api = Some(metadata.text.api);
    report.rustc = Some(metadata.text.rustc);
    report.target = Some(metadata.text.target);
    report.plugins = metadata.text.plugins;
}

fn of_metadata(unfit: &Unfit, options: &Options) -> Finding {
    let kind = match unfit {
        Unfit::NotAPlugin => &kinds::NOT_A_PLUGIN,
        Unfit::Unreadable(_) => &kinds::METADATA,
        Unfit::OtherMajor { .. } => &kinds::ABI_MAJOR,
        Unfit::Aborts => &kinds::ABORTS,
        Unfit::OtherTarget { .. } => &kinds::OTHER_TARGET,
        Unfit::RunnerTooOld { .. } => &kinds::RUNNER_TOO_OLD,
    };
    let finding = Finding::new(kind, unfit.to_string());
    match unfit {
        Unfit::OtherTarget { .. } if options.metadata_only => finding.at(Level::Note),
        _ => finding,
    }
}

/// What the dynamic linker would find here. `foreign`: not on this machine, so only what was asked for counts.
fn linker(dynamic: &Dynamic, foreign: bool, options: &Options, report: &mut Report) {
    report.glibc = newest(dynamic);
    let mut machine = Machine::here();
    match options.glibc {
        Some(baseline) => older_than(dynamic, baseline, report),
        None if foreign => {}
        None => lacking(dynamic, &mut machine, report),
    }
    if !foreign {
        missing(dynamic, &mut machine, report);
        clashes(dynamic, &machine, report);
    }
    let unique = dynamic.exported.iter().filter(|symbol| symbol.unique);
    let unique: Vec<_> = unique.map(|symbol| symbol.name.as_str()).collect();
    if !unique.is_empty() {
        report.add(Finding::new(&kinds::UNIQUE, told("it exports", &unique)));
    }
    let origin = dynamic
        .runpath
        .iter()
        .find(|folder| folder.contains("$ORIGIN") || folder.contains("${ORIGIN}"));
    if let Some(folder) = origin {
        report.add(Finding::new(
            &kinds::ORIGIN,
            format!("it looks for shared libraries in {folder}"),
        ));
    }
    if dynamic.static_tls {
        report.add(Finding::new(
            &kinds::STATIC_TLS,
            "it uses static thread-local storage",
        ));
    }
    if dynamic.executable_stack {
        report.add(Finding::new(
            &kinds::EXECUTABLE_STACK,
            "it asks for an executable stack",
        ));
    }
}

fn versions(dynamic: &Dynamic) -> impl Iterator<Item = (&str, &str, &[String])> {
    dynamic
        .versions_needed
        .iter()
        .flat_map(|(library, versions)| {
            let versions = versions.iter();
            versions
                .map(|(version, symbols)| (library.as_str(), version.as_str(), symbols.as_slice()))
        })
}

fn newest(dynamic: &Dynamic) -> Option<Glibc> {
    versions(dynamic)
        .filter_map(|(_, version, _)| Glibc::of_symbol(version))
        .max()
}

fn older_than(dynamic: &Dynamic, baseline: Glibc, report: &mut Report) {
    let newer =
        versions(dynamic).filter(|(_, version, _)| Glibc::of_symbol(version) > Some(baseline));
    let symbols: Vec<_> = newer
        .flat_map(|(.., symbols)| symbols)
        .map(String::as_str)
        .collect();
    if let (false, Some(needed)) = (symbols.is_empty(), report.glibc) {
        let what = told(
            &format!("it needs glibc {needed}, and is to run on {baseline}, which lacks"),
            &symbols,
        );
        report.add(Finding::new(&kinds::GLIBC, what));
    }
}

/// Versions of symbols that this machine's libraries do not offer.
fn lacking(dynamic: &Dynamic, machine: &mut Machine, report: &mut Report) {
    for library in dynamic.versions_needed.keys() {
        machine.has(library, &dynamic.runpath);
    }
    let lacking: Vec<_> = versions(dynamic)
        .filter(|(library, version, _)| !machine.offers(library, version))
        .collect();
    let (glibc, other): (Vec<_>, Vec<_>) = lacking
        .into_iter()
        .partition(|(_, version, _)| version.starts_with("GLIBC_"));
    let symbols: Vec<_> = glibc
        .iter()
        .flat_map(|(.., symbols)| *symbols)
        .map(String::as_str)
        .collect();
    if !symbols.is_empty() {
        let ours = machine
            .versions("libc.so.6")
            .filter_map(Glibc::of_symbol)
            .max();
        let ours = ours.map_or_else(
            || "another C library".to_owned(),
            |ours| format!("glibc {ours}"),
        );
        let needed = report
            .glibc
            .map_or_else(String::new, |needed| format!(" {needed}"));
        let what = told(
            &format!("it needs glibc{needed}, this machine has {ours}, which lacks"),
            &symbols,
        );
        report.add(Finding::new(&kinds::GLIBC, what));
    }
    for (library, version, symbols) in other {
        let symbols: Vec<_> = symbols.iter().map(String::as_str).collect();
        let what = told(
            &format!("{library} of this machine has no version {version} of"),
            &symbols,
        );
        report.add(Finding::new(&kinds::SYMBOL_VERSION, what));
    }
}

fn missing(dynamic: &Dynamic, machine: &mut Machine, report: &mut Report) {
    for library in &dynamic.needed {
        if !machine.has(library, &dynamic.runpath) {
            let what = format!("it needs the shared library {library}");
            report.add(Finding::new(&kinds::MISSING_LIBRARY, what));
        }
    }
}

/// Symbols of its own that its code would not find: what the process has comes first. One that its code does not look
/// up by name clashes with nobody.
fn clashes(dynamic: &Dynamic, machine: &Machine, report: &mut Report) {
    let own = dynamic
        .exported
        .iter()
        .filter(|symbol| symbol.looked_up && symbol.name != HEADER_SYMBOL);
    let owners = own.filter_map(|symbol| {
        let owner = machine.exports(&symbol.name)?;
        Some(format!("`{}` (also in {owner})", symbol.name))
    });
    let owners: Vec<_> = owners.collect();
    let owners: Vec<_> = owners.iter().map(String::as_str).collect();
    if !owners.is_empty() {
        report.add(Finding::new(&kinds::CLASH, told("it exports", &owners)));
    }
}

/// What is in the file that need not be.
fn shape(bytes: &[u8], dynamic: &Dynamic, report: &mut Report) {
    let section = |name| {
        elf::section(bytes, name)
            .map(paths::find)
            .unwrap_or_default()
    };
    let told = |found: &paths::Found| {
        let homes: Vec<_> = found.homes.iter().map(String::as_str).collect();
        let (files, homes) = (found.files.len(), homes.join(", "));
        let plural = if files == 1 { "" } else { "s" };
        format!("it names {files} source file{plural} below {homes}")
    };
    let in_texts = section(".rodata");
    let in_debug_info = [".debug_str", ".debug_line_str"].map(section);
    if !in_texts.files.is_empty() {
        report.add(Finding::new(&kinds::HOME, told(&in_texts)));
    } else if let Some(found) = in_debug_info.iter().find(|found| !found.files.is_empty()) {
        report.add(Finding::new(&kinds::HOME_IN_DEBUG_INFO, told(found)));
    }
    if dynamic.debug_info > LARGE && dynamic.debug_info > report.size / 2 {
        let (debug, size) = (
            super::report::size(dynamic.debug_info),
            super::report::size(report.size),
        );
        let what = format!("{debug} of its {size} are debug information");
        report.add(Finding::new(&kinds::LARGE_DEBUG_INFO, what));
    }
    if !dynamic.has_symbol_table {
        report.add(Finding::new(&kinds::STRIPPED, "it has no symbol table"));
    }
}

/// What the configuration says to it, and to the place where it lies.
pub(super) fn rules(file: &Path, options: &Options, report: &mut Report) {
    let plugins = &options.config.plugins;
    if plugins
        .allow
        .as_ref()
        .is_some_and(|allow| !allow.contains(&report.sha256))
    {
        let what = format!("its sha256 {} is not in plugins.allow", report.sha256);
        report.add(Finding::new(&kinds::UNLISTED, what));
    }
    let names: Vec<_> = report
        .plugins
        .iter()
        .map(|about| about.name.clone())
        .collect();
    for name in names.iter().filter(|name| !plugins.wants(name)) {
        report.add(Finding::new(
            &kinds::DISABLED,
            format!("its plugin `{name}` is not enabled"),
        ));
    }
    let trust = Trust {
        root: rustix::process::geteuid().is_root(),
        allow_writable: plugins.allow_writable,
    };
    let fault = rustix::fs::stat(file)
        .ok()
        .and_then(|stat| trust.fault(&stat));
    if let Some(cause) = fault {
        let finding = Finding::new(&kinds::WRITABLE, cause);
        let in_place = options.rules && is_in(file, plugins.dir.as_deref());
        report.add(if in_place {
            finding.at(Level::Error)
        } else {
            finding
        });
    }
}

fn is_in(file: &Path, folder: Option<&Path>) -> bool {
    let canonical = |path: &Path| path.canonicalize().ok();
    let parent = file.parent().map(|parent| {
        if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        }
    });
    folder.is_some_and(|folder| {
        canonical(folder).is_some() && canonical(folder) == parent.and_then(canonical)
    })
}

/// `it exports a, b, c, d and 3 more`
fn told(what: &str, names: &[&str]) -> String {
    let shown = names
        .iter()
        .take(TOLD)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(TOLD) {
        0 => format!("{what} {shown}"),
        more => format!("{what} {shown} and {more} more"),
    }
}
