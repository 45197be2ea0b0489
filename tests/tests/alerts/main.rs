//! The alerts of `alerts/`: that the rules and their own tests hold, that each alert has a runbook and is tested both ways,
//! that whatever is queried is exported, and that the right people are told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod afterwards;
mod estate;
mod files;
mod inhibition;
mod matrix;
mod routes;
mod rules;
mod runbooks;
mod unseen;
