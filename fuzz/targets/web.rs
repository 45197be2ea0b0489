//! The query of a probe, the scrape timeout header, the web configuration file, and URIs.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    txnscope_sidecar::fuzzing::web(text);
    txnscope_sidecar::fuzzing::uri(text);
});
