//! Messages of any other FlatBuffers writer are read as they were written.
#![no_main]

libfuzzer_sys::fuzz_target!(|call: fuzz::received::Message| fuzz::received::read_back(&call));
