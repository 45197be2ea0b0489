//! The listener on real servers: its counters match the server's.

mod accounting;
mod election;
mod handlers;
mod jobs;
mod overload;
mod sessions;
mod support;
