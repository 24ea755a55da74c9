//! What the runner writes reads as it was meant, with the generated code.
#![no_main]

libfuzzer_sys::fuzz_target!(|reply: fuzz::replies::Reply| fuzz::replies::read_back(&reply));
