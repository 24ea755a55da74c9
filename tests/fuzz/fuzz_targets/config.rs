//! Any bytes as a config.yaml.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::text::config(bytes));
