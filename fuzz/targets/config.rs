//! The configuration file.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_cli::fuzzing::config(text));
