//! The tests of the library in one program, which links once. Apart from it are those that need a process of their own:
//! `recorder` and `recorder_builder` install the process's global recorder, and `allocations` replaces its allocator.
//!
//! Every test here counts into an isolated recorder, and captures the log of its own thread only.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod readiness;
mod service;

#[cfg(feature = "axum")]
mod events;
#[cfg(feature = "axum")]
mod http;
#[cfg(feature = "axum")]
mod operation_limit;

#[cfg(feature = "mongodb")]
mod elections;
#[cfg(feature = "mongodb")]
mod env;
#[cfg(all(feature = "axum", feature = "mongodb"))]
mod examples;
#[cfg(all(feature = "axum", feature = "mongodb"))]
mod first_statement;
#[cfg(feature = "mongodb")]
mod listener;
#[cfg(all(feature = "axum", feature = "mongodb"))]
mod log_capture;
#[cfg(all(feature = "axum", feature = "mongodb"))]
mod runner;
#[cfg(all(feature = "axum", feature = "mongodb"))]
mod spec;
