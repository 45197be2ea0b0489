//! Requests that are counted: allocations from within, instructions by callgrind.

use anyhow::Result;

use crate::{Contender, ROUTES, Requests, Worker};

/// How many are counted at once.
pub const REQUESTS: u32 = 1_000;

/// A contender at steady state: every route has been asked for.
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

/// What callgrind is told to count, by this name. It must not be inlined, nor be generic: then it would have many.
#[inline(never)]
pub fn measured_requests(worker: &mut Worker, requests: &mut Requests) {
    worker(requests, REQUESTS);
}
