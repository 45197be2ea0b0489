//! The integration tests of the sidecar: one module for each subject, in one program. The name of a module is a filter:
//!
//! ```console
//! $ cargo test -p txnscope-sidecar --test sidecar              # all of them
//! $ cargo test -p txnscope-sidecar --test sidecar targets::    # probes alone
//! ```
//!
//! The attacks are a program of their own: they need the process's file limit and both cores to themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod faults;
mod identity;
mod live;
mod live_page;
mod long_running;
mod members;
mod privileges;
mod replication;
mod server_counters;
mod slow;
mod targets;
mod tls;
mod versions;
mod waits;
mod watched;
mod web;
