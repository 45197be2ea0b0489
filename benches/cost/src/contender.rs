//! A contender of a benchmark: a service, and the worker that drives requests through it.

use std::convert::Infallible;
use std::fmt;

use axum::extract::Request;
use axum::http::Response;
use tower_service::Service;

use crate::{Requests, drive};

/// Sends this many requests through a service.
pub type Worker = Box<dyn FnMut(&mut Requests, u32)>;

/// A named service, of which each thread gets a clone, as each connection of a server does.
pub struct Contender {
    /// The name in the report.
    pub name: &'static str,
    worker: Box<dyn Fn() -> Worker + Send + Sync>,
}

impl Contender {
    /// Creates a contender from a service.
    pub fn new<S, B>(name: &'static str, service: S) -> Self
    where
        S: Service<Request, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        B: http_body::Body,
    {
        let worker = move || -> Worker {
            let mut service = service.clone();
            Box::new(move |requests, count| {
                for _ in 0..count {
                    drive(&mut service, requests.make());
                }
            })
        };
        Self { name, worker: Box::new(worker) }
    }

    /// Creates a contender from a function instead of requests.
    pub fn of(name: &'static str, work: impl Fn() + Clone + Send + Sync + 'static) -> Self {
        let worker = move || -> Worker {
            let work = work.clone();
            Box::new(move |_, count| (0..count).for_each(|_| work()))
        };
        Self { name, worker: Box::new(worker) }
    }

    /// Returns a worker for the current thread.
    #[must_use]
    pub fn worker(&self) -> Worker {
        (self.worker)()
    }
}

impl fmt::Debug for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contender").field("name", &self.name).finish_non_exhaustive()
    }
}
