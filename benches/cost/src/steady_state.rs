//! Requests at steady state, to count: allocations by the program itself, instructions by callgrind.

use anyhow::Result;

use crate::{Contender, ROUTES, Requests, Worker};

/// The number of requests of one measurement.
pub const REQUESTS: u32 = 1_000;

/// Warms a contender up: every route has been requested once.
///
/// # Errors
///
/// If the router matches none of the requests.
pub fn ready(contender: &Contender, below_router: bool) -> Result<(Worker, Requests)> {
    let mut requests =
        if below_router { Requests::below_router(0..ROUTES)? } else { Requests::to_router(0..ROUTES) };
    let mut worker = contender.worker();
    worker(&mut requests, REQUESTS);
    Ok((worker, requests))
}

/// The function whose instructions callgrind counts, by this name. It must be neither inlined nor generic, so that
/// there is exactly one.
#[inline(never)]
pub fn measured_requests(worker: &mut Worker, requests: &mut Requests) {
    worker(requests, REQUESTS);
}
