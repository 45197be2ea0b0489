//! Requests to the ledger: path, headers and body, up to where the database would be asked.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ledger::fuzzing::request(bytes));
