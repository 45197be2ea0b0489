//! Files of checks.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| drop(txnscope_consistency::Checks::parse(text)));
