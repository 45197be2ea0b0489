//! Replies of the server, as bytes, to every collector: `serverStatus`, `$currentOp`, the profiler and the others.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| txnscope_sidecar::fuzzing::reply(bytes));
