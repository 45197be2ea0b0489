//! What the tower layer costs a request.
//!
//! This is the work that is measured, the same for everybody: [requests](Requests) as a server hands them over, sent
//! [through](drive) a [service that does nothing](NoOp) or a [router with fifty routes](router), with a layer and
//! without. The program `count` counts our layer's allocations and instructions, which `cargo xtask test` compares with
//! the figures of `counts.txt`; beside the peers, the benchmark `bench_counts` does the same and `bench_layer` measures time.

mod contender;
mod counted;
mod ours;
mod service;
mod work;

pub use crate::contender::{Contender, Worker};
pub use crate::counted::{REQUESTS, measured_requests, ready};
pub use crate::ours::{named, on_router, routed, router_without, without};
pub use crate::service::{NoOp, router};
pub use crate::work::{ROUTES, Requests, drive};
