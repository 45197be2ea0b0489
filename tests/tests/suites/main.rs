//! The end-to-end suites, against real servers, in one program: each module is a suite, and its name is a filter:
//!
//! ```console
//! $ cargo test -p end-to-end --test suites                # all of them
//! $ cargo test -p end-to-end --test suites alerts::       # the alerts alone
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod accounting;
mod alerts;
mod by_operation;
mod checks;
mod common;
mod crate_dependencies;
mod dashboards;
mod disconnects;
mod documented_names;
mod documented_samples;
mod end_to_end;
mod grpc;
mod live_page;
mod metrics_contract;
mod packaging;
mod supply_chain;
