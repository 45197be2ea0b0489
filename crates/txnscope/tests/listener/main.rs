//! The listener on real servers: its books against the server's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod books;
mod election;
mod handlers;
mod jobs;
mod overload;
mod sessions;
mod support;
