//! Attacks on the program: by who may write to what it reads (documents, records, a server's and a service's words), and by
//! who reaches what it serves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod javascript;
mod prometheus;
mod records;
mod serve;
mod shop;
mod words;
