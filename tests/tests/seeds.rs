//! The seeds of the fuzz targets, run by the same functions: a fault that fuzzing found once stays found.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a seed that fails is named, and ends the test"
)]

use std::fs;
use std::path::Path;

#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "the fuzz targets' own sources; the confs of plugins have tests of their own"
)]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use arbitrary::{Arbitrary, Unstructured};

/// Runs every seed of a target.
#[track_caller]
fn seeds(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).unwrap();
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        println!("{}", path.display());
        run(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 3, "{target} has {count} seeds");
}

/// As libFuzzer's glue makes values of bytes: too few of them are no value.
fn made<'a, T: Arbitrary<'a>>(bytes: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(bytes)).ok()
}

#[test]
fn seeds_of_frames_pass() {
    seeds("frames", targets::frames::read);
    seeds("frames_written", |bytes| {
        let frames: Vec<(u8, Vec<u8>)> = made(bytes).unwrap();
        targets::frames::written(&frames);
    });
}

#[test]
fn seeds_of_messages_pass() {
    seeds("messages", targets::messages::read);
    seeds("messages_received", |bytes| {
        targets::received::read_back(&made(bytes).unwrap());
    });
    seeds("replies", |bytes| {
        targets::replies::read_back(&made(bytes).unwrap());
    });
}

#[test]
fn seeds_of_libraries_pass() {
    seeds("metadata", targets::library::metadata);
    seeds("library", targets::library::file);
}

#[test]
fn seeds_of_what_people_write_pass() {
    seeds("config", targets::text::config);
    seeds("bindings", targets::text::bindings);
    seeds("routes", targets::text::routes);
}

// A binary can hold one plugin: its export has a fixed name. The other one's confs are in `seeds_response_rewrite`.
#[test]
fn seeds_of_confs_of_stop_pass() {
    seeds("conf_stop", targets::text::conf::<stop::Stop>);
}
