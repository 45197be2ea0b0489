//! Replies of the server, as bytes, to every source: `serverStatus`, `$currentOp`, the profiler and the rest.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| txnscope_sidecar::fuzzing::reply(bytes));
