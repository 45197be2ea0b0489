//! The listener on real servers: its counters match the server's.

mod accounting;
mod connection_pools;
mod election;
mod handlers;
mod jobs;
mod overload;
mod sessions;
mod support;
