//! The integration tests of the program `txnscope`: one module for each command or area, in one binary.
//!
//! A test that changes the environment, the working directory or the limits of its own process must not be added here,
//! since all tests share the process. Give it a binary of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod audit_repair;
mod collectors;
mod common;
mod documented_commands;
mod documented_flags;
mod drill;
mod generated_docs;
mod identity;
mod module_dependencies;
mod node_backend;
mod packaged;
mod preflight;
mod proxy;
mod role;
mod secrets;
mod serve;
mod top;
mod verify;
