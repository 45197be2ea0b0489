//! The proxy between real clients and backends, all on this machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancellation;
mod classification;
mod conservation;
mod counting;
mod drain;
mod forwarding;
mod http2;
mod limits;
mod malformed;
mod smuggling;
mod support;
mod transports;
mod upgrades;
mod upstream_failures;
