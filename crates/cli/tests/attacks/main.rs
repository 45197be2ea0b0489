//! Attacks on the commands by who may write to what they read: documents, records, a server's and a service's words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod javascript;
mod prometheus;
mod records;
mod shop;
mod words;
