//! What is watched, and under which name: every state, refusal and address that a member may have, and who answers.
//!
//! Real servers where they can be had; a fake member for what no real one can be made to say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
#[path = "../common/mod.rs"]
mod common;
mod fakes;
mod followed;
mod refusals;
mod states;
mod strangers;
