//! What somebody would try who means harm: members that lie, callers that flood, files that are tampered with.
//!
//! Each attack is bounded and stays on the loopback address.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../watched/fakes.rs"]
#[allow(dead_code, reason = "not every suite uses all of it")]
mod fakes;
mod members;
mod probes;
