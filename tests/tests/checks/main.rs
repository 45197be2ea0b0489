//! The ledger's own checks on the ledger's own data: quiet while it is right, exact when it is not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod corruption;
mod older;
mod repair;
mod schedule;
mod story;
mod world;
