//! The transaction runner on a real replica set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancellation;
mod contention;
mod handler;
mod outcomes;
mod stage;
