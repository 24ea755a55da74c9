//! Any bytes as a conf of the plugin `stop`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::text::conf::<stop::Stop>(bytes));
