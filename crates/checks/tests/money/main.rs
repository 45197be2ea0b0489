//! Money is never guessed: what a repair refuses, what it writes, and what an audit does not call clean.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod balances;
mod environment;
mod inputs;
mod parts;
mod stages;
mod types;
mod undo;
