//! The proxy between real clients and backends, all on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backend_process;
mod cancellation;
mod classification;
mod conservation;
mod counting;
mod drain;
mod forwarding;
mod framing_of_answers;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod http2;
mod limits;
mod malformed;
mod passed_unchanged;
mod smuggling;
mod support;
mod transports;
mod upgrades;
mod upstream_failures;
mod web;
