//! What measures this process's memory has a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod large_bodies;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "it is that of another suite")]
mod support;
