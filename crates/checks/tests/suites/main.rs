//! The checks and repairs against real servers, in one program: each module is a suite, and its name is a filter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documentation;
mod forged_records;
mod invoices;
mod money;
mod money_fuzz;
mod rules;
