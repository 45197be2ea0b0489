//! Check files.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_checks::fuzzing::checks(text));
