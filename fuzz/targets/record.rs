//! Repair records, which an undo reads.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| txnscope_checks::fuzzing::record(bytes));
