//! The query of a probe, the header with its time, the file of the web side, and URIs.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    txnscope_sidecar::fuzzing::web(text);
    txnscope_sidecar::fuzzing::uri(text);
});
