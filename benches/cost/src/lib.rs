//! The overhead of the tower layer for a request.
//!
//! The measured work is the same for all contenders: [requests](Requests) as a server passes them on, sent
//! [through](drive) a [service that does nothing](NoOp) or a [router with fifty routes](router), with a layer and
//! without. The program `count` counts our layer's allocations and instructions, which `cargo xtask test` compares
//! with the figures of `counts.txt`; beside the peers, the benchmark `bench_counts` does the same and `bench_layer`
//! measures time.

mod contender;
mod layers;
mod requests;
mod service;
mod steady_state;

pub use crate::contender::{Contender, Worker};
pub use crate::layers::{named, on_router, routed, router_without, without};
pub use crate::requests::{ROUTES, Requests, drive};
pub use crate::service::{NoOp, router};
pub use crate::steady_state::{REQUESTS, measured_requests, ready};
