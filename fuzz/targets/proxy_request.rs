//! The bytes of a caller's connection to the proxy, up to the backend, which answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    txnscope_proxy::fuzzing::request(bytes);
});
