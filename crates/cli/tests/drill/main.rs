//! `txnscope drill` as a process, on real ledgers and on backends that misbehave.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod load;
mod mutants;
mod race;
mod refusals;
mod stage;
mod tls;
