//! The target `msgpack-document` of crates/fuzz under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| modelferry_fuzz::must_hold("msgpack-document", data));
