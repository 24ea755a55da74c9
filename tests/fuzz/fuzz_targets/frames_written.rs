//! Frames that were written are read back.
#![no_main]

libfuzzer_sys::fuzz_target!(|frames: Vec<(u8, Vec<u8>)>| fuzz::frames::written(&frames));
