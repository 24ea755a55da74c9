//! The runner and the libraries that the tests use: built once in a run, with cargo. Tests get copies, never these.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use xtask::{cargo, plugins};

struct Built {
    runner: PathBuf,
    plugins: PathBuf,
}

fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(|| {
        // `cargo xtask sanitize` brings its own.
        if let Some(folder) = std::env::var_os("E2E_ARTIFACTS") {
            let plugins = PathBuf::from(folder);
            let runner = plugins.join("plugin-runner");
            return Built { runner, plugins };
        }
        let target = cargo::target_folder().unwrap();
        let plugins = target.join("test-plugins");
        plugins::build(&plugins::Options {
            out: plugins.clone(),
            release: false,
            with_test_plugins: true,
        })
        .unwrap();
        let build = ["build", "--quiet", "--package", "plugin-runner"];
        let files = cargo::build(cargo::cargo().args(build)).unwrap();
        let runner = files
            .into_iter()
            .find(|file| file.ends_with("plugin-runner"));
        let runner = runner.expect("the build makes the runner");
        // A copy: a test builds another runner, which takes its place in cargo's folder.
        let own = target.join("test-runner");
        fs::create_dir_all(&own).unwrap();
        Built {
            runner: plugins::lay_as(&runner, &own, "plugin-runner").unwrap(),
            plugins,
        }
    })
}

/// The runner's executable.
pub fn runner() -> &'static Path {
    &built().runner
}

/// The library of an example or test plugin.
pub fn library(plugin: &str) -> PathBuf {
    let name = format!("lib{}.so", plugin.replace('-', "_"));
    built().plugins.join(name)
}

/// The bytes of the library of plugin `misbehaving`, with a mark in it: mode `mark` answers with it. Every mark makes
/// a build of its own, as far as the runner can tell.
pub fn marked(mark: &str) -> Vec<u8> {
    const MARK: &[u8; 16] = b"mark-of-the-file";
    assert_eq!(
        mark.len(),
        MARK.len(),
        "a mark has as many bytes as the one in the source"
    );
    patched("misbehaving", MARK, mark.as_bytes())
}

/// The bytes of a library, with other bytes in the place of some.
///
/// # Panics
/// They are not in it, or are not as many.
pub fn patched(plugin: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(library(plugin)).unwrap();
    let places: Vec<_> = memchr_all(&bytes, old);
    assert!(
        !places.is_empty(),
        "{} has no such bytes",
        library(plugin).display()
    );
    for place in places {
        bytes[place..place + new.len()].copy_from_slice(new);
    }
    bytes
}

/// The SHA-256 sum of bytes, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    let mut tool = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = tool.stdin.take().unwrap();
    input.write_all(bytes).unwrap();
    drop(input);
    let output = tool.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap()[..64].to_owned()
}

fn memchr_all(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let first = part[0];
    let starts = bytes.iter().enumerate().filter(|(_, byte)| **byte == first);
    let starts = starts.map(|(at, _)| at);
    starts.filter(|at| bytes[*at..].starts_with(part)).collect()
}
