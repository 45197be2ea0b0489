//! Monitored members: states, error replies, addresses, and identity.
//!
//! Real servers where possible; fake members for replies that no real server can be made to send.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
#[path = "../common/mod.rs"]
mod common;
mod fakes;
mod followed;
mod refusals;
mod states;
mod strangers;
