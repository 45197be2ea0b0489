//! Answers over HTTP: of Prometheus, Alertmanager and Grafana, and of a backend that is asked for its transactions.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    txnscope_cli::fuzzing::answer(bytes);
    txnscope_sidecar::fuzzing::open_transactions(bytes);
});
