//! Files of checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_consistency::fuzzing::checks(text));
