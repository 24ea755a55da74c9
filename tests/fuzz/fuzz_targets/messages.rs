//! Any bytes as every message of the gateway.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::messages::read(bytes));
