//! Requests, and driving them through a service.

use std::convert::Infallible;
use std::hint::black_box;
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{Method, Response, Uri};
use tower_service::Service;

use crate::service::{captures, template};

/// The number of routes, as in a typical backend.
pub const ROUTES: usize = 50;

/// Creates requests to a range of routes, in turn.
///
/// Each thread has its own: nothing is shared, so that any contention between threads is the layer's.
#[derive(Debug)]
pub struct Requests {
    routes: Vec<(Uri, Option<MatchedPath>)>,
    next: usize,
}

impl Requests {
    /// Creates requests to a router, which matches their routes.
    #[must_use]
    pub fn to_router(routes: Range<usize>) -> Self {
        let uri = |route| Uri::from_static(template(route).replace("{id}", "65f1c0").leak());
        Self { routes: routes.map(|route| (uri(route), None)).collect(), next: 0 }
    }

    /// Creates requests to a service below a router: each carries its matched route template.
    ///
    /// # Errors
    ///
    /// If the router matches none of the requests.
    pub fn below_router(routes: Range<usize>) -> Result<Self> {
        let mut requests = Self::to_router(routes);
        let (mut router, matched) = captures();
        for (uri, path) in &mut requests.routes {
            drive(&mut router, request(uri));
            *path = Some(matched.recv().context("the router matched no route")?);
        }
        Ok(requests)
    }

    /// Returns the next request.
    pub fn make(&mut self) -> Request {
        let (uri, path) = &self.routes[self.next];
        self.next = if self.next + 1 == self.routes.len() { 0 } else { self.next + 1 };
        let mut request = request(uri);
        if let Some(path) = path {
            request.extensions_mut().insert(path.clone());
        }
        request
    }
}

fn request(uri: &Uri) -> Request {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    request
}

/// Sends a request through a service that responds at once, and reads the response to its end, as a server does.
///
/// # Panics
///
/// If the service is not ready at once: then other work than the layer's would be measured.
pub fn drive<S, B>(service: &mut S, request: Request)
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready(), "the service is always ready");
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut context) else {
        panic!("the service answers at once")
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut context) {
        black_box(frame.is_ok());
    }
}
