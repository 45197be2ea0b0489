//! The scenario file of `drill`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_cli::fuzzing::scenarios(text));
