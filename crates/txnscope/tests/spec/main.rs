//! The runner against the scenarios of MongoDB's own test files for transactions: see `../README.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abort;
mod backpressure;
mod codes;
mod commit;
mod convenient;
mod misuse;
mod options;
mod scene;
#[path = "../runner/stage.rs"]
mod stage;
mod statements;
mod table;
