//! The classifier of HTTP requests and responses.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri};

use crate::classify::unknown_failure;
use crate::{Classification, ClassifyRequest, ClassifyResponse, OperationName, Reason};

/// Classifies HTTP requests and responses.
///
/// The operation is the method and the route template that axum matched (`POST /api/retainers/{id}/consume`), or
/// `unmatched`; never the path. Safe methods (GET, HEAD, OPTIONS, TRACE) pass through uncounted.
///
/// A [`Classification`] in the response's extensions is the outcome. Without one the status decides, and a reason
/// noted in the scope overrides the status's reason:
///
/// | status | outcome | reason |
/// | --- | --- | --- |
/// | 1xx, 2xx, 3xx | succeeded | |
/// | 401, 403 | rejected | `unauthorized` |
/// | 408, 504 | failed | `timeout` |
/// | 402, 409, 423, 429, 451 | rejected | `application` |
/// | other 4xx | rejected | `invalid_request` |
/// | other 5xx | failed | `other` |
///
/// An undeclared name becomes an operation when a handler is reached: when code below the layer asks for its
/// [scope](crate::scope) (a transaction does so), or when the handler responds. Until then the name has no series,
/// unless it was [declared](crate::TransactionLayer::declare). A method that the route does not have (405) is
/// `unmatched`. Names that were only ever rejected may take at most half of the operations, so that unauthenticated
/// clients cannot exhaust the limit.
///
/// gRPC always responds with status 200. A `grpc-status` in the headers decides, which is where a handler's
/// `Err(Status)` puts it:
///
/// | `grpc-status` | outcome | reason |
/// | --- | --- | --- |
/// | 0 | succeeded | |
/// | 7 permission denied, 16 unauthenticated | rejected | `unauthorized` |
/// | 4 deadline exceeded | failed | `timeout` |
/// | 6 already exists, 8 resource exhausted, 9 failed precondition, 10 aborted | rejected | `application` |
/// | 3 invalid argument, 5 not found, 11 out of range, 12 unimplemented | rejected | `invalid_request` |
/// | 1 cancelled | rejected | `cancelled` |
/// | any other | failed | `other` |
///
/// **The layer does not see a status in the trailers.** It finishes when the headers are ready, before a body is
/// streamed. A call that streams its response and then fails, or whose message precedes the error, counts as
/// succeeded: put a [`Classification`] into the response's extensions there.
#[derive(Clone, Default)]
pub struct Http {
    filter: Option<Arc<Filter>>,
    name: Option<Arc<Name>>,
}

type Filter = dyn Fn(RequestHead<'_>) -> bool + Send + Sync;
type Name = dyn for<'a> Fn(RequestHead<'a>) -> Option<&'a str> + Send + Sync;

/// The parts of a request that a filter or a naming function can read.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The URI. Do not use a path or a query as a name: the caller controls them.
    pub uri: &'a Uri,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The extensions, where routers store the matched route.
    pub extensions: &'a Extensions,
}

impl Http {
    pub(crate) fn set_filter(&mut self, filter: impl Fn(RequestHead<'_>) -> bool + Send + Sync + 'static) {
        self.filter = Some(Arc::new(filter));
    }

    pub(crate) fn set_name(
        &mut self,
        name: impl for<'a> Fn(RequestHead<'a>) -> Option<&'a str> + Send + Sync + 'static,
    ) {
        self.name = Some(Arc::new(name));
    }
}

impl<B> ClassifyRequest<Request<B>> for Http {
    fn operation<'a>(&'a self, request: &'a Request<B>) -> Option<OperationName<'a>> {
        let head = RequestHead {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        };
        let counted = match &self.filter {
            Some(filter) => filter(head),
            None => !head.method.is_safe(),
        };
        if !counted {
            return None;
        }
        if let Some(name) = self.name.as_ref().and_then(|name| name(head)) {
            return Some(OperationName::named(name));
        }
        Some(match matched_template(head.extensions) {
            Some(matched_template) => OperationName::route(method_label(head.method), matched_template),
            None => OperationName::UNMATCHED,
        })
    }
}

#[cfg(feature = "axum")]
fn matched_template(extensions: &Extensions) -> Option<&str> {
    extensions.get::<axum::extract::MatchedPath>().map(axum::extract::MatchedPath::as_str)
}

#[cfg(not(feature = "axum"))]
fn matched_template(_: &Extensions) -> Option<&str> {
    None
}

/// Maps unknown methods to `OTHER`: a client may send any word as a method, and only the standard ones become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}

impl<B, E> ClassifyResponse<Response<B>, E> for Http {
    fn response(&self, response: &Response<B>) -> Classification {
        // Fast path: a response without extensions, as nearly every success is, costs one comparison.
        match response.extensions().get::<Classification>() {
            Some(classification) => classification.clone(),
            None if response.status() == StatusCode::OK && !response.headers().is_empty() => {
                crate::grpc::classification(response.headers()).unwrap_or_else(Classification::succeeded)
            }
            None => classify_status(response.status()),
        }
    }

    fn error(&self, _: &E) -> Classification {
        unknown_failure::<E>()
    }
}

fn classify_status(status: StatusCode) -> Classification {
    match status {
        // The router's own response: the route does not have this method.
        StatusCode::METHOD_NOT_ALLOWED => Classification::from_status(status).without_handler(),
        status => Classification::from_status(status),
    }
}

impl Classification {
    /// The classification of a response of which only the HTTP status is known, by the table of [`Http`].
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        match status.as_u16() {
            ..400 => return Self::succeeded(),
            401 | 403 => Self::rejected(Reason::UNAUTHORIZED),
            408 | 504 => Self::failed(Reason::TIMEOUT),
            402 | 409 | 423 | 429 | 451 => Self::rejected(Reason::APPLICATION),
            400..500 => Self::rejected(Reason::INVALID_REQUEST),
            _ => Self::failed(Reason::OTHER),
        }
        .overridable()
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("filter", &self.filter.is_some())
            .field("name", &self.name.is_some())
            .finish()
    }
}
