//! The listener on real servers: its books against the server's own.

mod accounting;
mod election;
mod handlers;
mod jobs;
mod overload;
mod sessions;
mod support;
