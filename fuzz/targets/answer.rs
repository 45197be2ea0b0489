//! HTTP responses of Prometheus, Alertmanager and Grafana, and of a backend with its open transactions.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    txnscope_cli::fuzzing::answer(bytes);
    txnscope_sidecar::fuzzing::open_transactions(bytes);
});
