//! What measures this process's memory has a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod idle_connections;
mod large_bodies;
#[path = "../proxy/support.rs"]
#[allow(dead_code, reason = "it is that of another suite")]
mod support;

/// The memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Tests that measure memory run one after the other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
