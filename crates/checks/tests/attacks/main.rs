//! Attacks on an audit and a repair by whoever may write to the database that they read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../money/environment.rs"]
#[allow(dead_code, reason = "not every suite uses all of it")]
mod environment;
mod records;
