//! The services that the layers wrap.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::Response;
use axum::routing::post;
use tower_service::Service;

use crate::ROUTES;

/// A service that responds at once with an empty response.
#[derive(Debug, Clone, Copy)]
pub struct NoOp;

impl Service<Request> for NoOp {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

/// A router whose handlers do nothing.
pub fn router() -> Router {
    (0..ROUTES).fold(Router::new(), |router, route| router.route(&template(route), post(async || ())))
}

/// Returns a router that sends each matched route template to the receiver.
pub(crate) fn captures() -> (Router, Receiver<MatchedPath>) {
    let (sender, receiver) = channel();
    let capture = move |path: MatchedPath| {
        // The caller keeps the receiver.
        let _ = sender.send(path);
        async {}
    };
    let router = (0..ROUTES)
        .fold(Router::new(), |router, route| router.route(&template(route), post(capture.clone())));
    (router, receiver)
}

pub(crate) fn template(route: usize) -> String {
    format!("/api/resource-{route}/{{id}}/consume")
}
