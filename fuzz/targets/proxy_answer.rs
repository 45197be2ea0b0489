//! The bytes of a backend's connection, which the proxy passes on to a caller.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    txnscope_proxy::fuzzing::answer(bytes);
});
