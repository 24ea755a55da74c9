//! Any bytes as a routes file of the local gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::text::routes(bytes));
