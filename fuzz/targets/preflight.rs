//! Replies of the server to the commands of `preflight`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| txnscope_cli::fuzzing::preflight(bytes));
