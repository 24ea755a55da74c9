//! Any bytes as a conf of the plugin `response-rewrite`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |bytes: &[u8]| fuzz::text::conf::<response_rewrite::ResponseRewrite>(bytes)
);
