//! The command line, and the URLs of services.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    txnscope_cli::fuzzing::flags(text);
    txnscope_cli::fuzzing::url(text);
});
