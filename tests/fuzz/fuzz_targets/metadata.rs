//! Any bytes as the metadata section of a library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::library::metadata(bytes));
