//! The transaction runner on a real replica set.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancellation;
mod contention;
mod given_up;
mod handler;
mod log;
mod misuse;
mod outcomes;
mod random_works;
mod refused_cleanup;
mod stage;
mod wrapped;
