//! Requests to the ledger: path, headers and body, up to the point where the database would be used.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ledger::fuzzing::request(bytes));
