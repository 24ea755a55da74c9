//! Any bytes as a library.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::library::file(bytes));
