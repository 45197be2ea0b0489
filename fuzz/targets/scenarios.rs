//! The scenario file of `drill race`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_cli::fuzzing::scenarios(text));
