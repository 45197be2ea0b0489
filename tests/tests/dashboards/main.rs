//! The dashboards: that they are what their source says, that Grafana takes them, that their queries name what there is,
//! and that no panel stays empty.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod layout;
mod live;
mod page;
mod queries;
mod schema;
mod source;
