//! Lines of the server's log.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| txnscope_sidecar::fuzzing::log_line(text));
