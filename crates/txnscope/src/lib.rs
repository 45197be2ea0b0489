//! MongoDB transactions, made observable from the caller's side.
//!
//! [`TransactionLayer`] wraps a router, a route or any tower service. It counts and times the operations that pass
//! through it, each once however it ends: answered, refused, failed, left by its caller, panicked. Below the
//! layer, the operation is visible to the handler's task as a [`scope`].
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::http::StatusCode;
//! use axum::response::{IntoResponse, Response};
//! use axum::routing::post;
//! use txnscope::{Metrics, Operation, Reason, TransactionLayer, Classification};
//!
//! const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
//! const CONSUME: Operation =
//!     Operation::new("POST /api/retainers/{id}/consume").rejection_reasons(&[INSUFFICIENT_BALANCE]);
//!
//! async fn consume() -> Response {
//!     // The transaction found the balance too low: say so, and nobody is paged.
//!     (StatusCode::BAD_REQUEST, Classification::rejected(INSUFFICIENT_BALANCE), "Insufficient balance").into_response()
//! }
//!
//! # fn wire() -> Result<(), txnscope::InstallError> {
//! let metrics = Metrics::install()?;
//! let app: axum::Router = axum::Router::new()
//!     .route("/api/retainers/{id}/consume", post(consume))
//!     .layer(TransactionLayer::new().declare([CONSUME]))
//!     .merge(metrics.router()); // GET /metrics
//! # drop(app);
//! # Ok(())
//! # }
//! # wire().unwrap();
//! # }
//! ```
//!
//! # What is counted
//!
//! | metric | what |
//! | --- | --- |
//! | `transaction_attempts_total{operation}` | operations admitted |
//! | `transaction_failures_total{operation,outcome,reason}` | operations that did not succeed, and why |
//! | `transaction_duration_seconds{operation,outcome}` | time to the response, as a histogram |
//! | `concurrent_operations{operation}` | operations in flight |
//!
//! Attempts are the durations' counts and the operations in flight, together. Every operation that did not succeed
//! is logged once, with what the span [attached](scope::attach_span) by the handler says.
//!
//! # Where to put the layer
//!
//! Around routes: `Router::layer`, `Router::route_layer`, or inside of `nest` and `nest_service`; there axum has
//! matched a template. Around a whole `Router` from outside (as a service), and outside of `nest_service`, axum
//! has not matched yet, so that every request would be `unmatched`: give it names with
//! [`TransactionLayer::name_operations`]. It is axum **0.8** whose `MatchedPath` is read; with another version every request is
//! `unmatched`, too. The first request that succeeds so is warned of.
//!
//! Time limits belong inside of it (a layer that was added before, since the last one is the outermost): what takes too
//! long is then `failed`, with the reason `timeout`. A limit outside drops the layer's future, as a caller does who leaves:
//! an outage in which every request times out is `cancelled`, and pages nobody.
//!
//! Two layers around one another count an operation once, if both have the same name for it. `nest_service` with one layer
//! inside and one outside has two: the inner one knows the template, the outer one is `unmatched`. A route that calls
//! others in the same process counts each of them as an operation of its own, for it is a request to it.
//!
//! # What a request is counted as
//!
//! - Its time ends with the response's head. A streamed body, server-sent events, what happens in a WebSocket: all that comes
//!   after it, and is not the layer's.
//! - A caller who leaves while the handler works is `cancelled`. One who leaves in the middle of his upload is `rejected`, with
//!   the reason `invalid_request`: the extractor that reads the body sees a bad request, and answers 400.
//! - The [`Classification`] travels in the response's extensions. A middleware between handler and layer that makes a new response
//!   drops it, and the status decides: let it take the old one's parts along.
//!
//! # Cost
//!
//! At steady state a request allocates nothing and reads the clock twice. The log event, the first request of an
//! operation, and [`scope::current`] allocate.
//!
//! # Features
//!
//! - `axum` (default): route templates, [`Classification`] as a part of a response, a `/metrics` router
//! - `http`: operations and outcomes of `http` requests, with names that you give
//! - `mongodb`: the [transaction runner](transaction) and the [listener](transaction::listener), on the `mongodb` driver
//!
//! Without either, the layer wraps any tower service.

mod classification;
mod classify;
mod failure_log;
mod future;
mod layer;
mod operation;
mod outcome;
mod reason;
pub mod recorder;
mod registry;
pub mod scope;
mod service;
mod timestamp;
#[cfg(feature = "mongodb")]
pub mod transaction;

#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "http")]
mod grpc;
#[cfg(feature = "http")]
mod http;

pub use crate::classification::Classification;
pub use crate::classify::{ClassifyRequest, ClassifyResponse, StaticOperation};
pub use crate::failure_log::ErrorChain;
pub use crate::future::ResponseFuture;
#[cfg(feature = "http")]
pub use crate::http::{Http, RequestHead};
pub use crate::layer::TransactionLayer;
pub use crate::operation::{Operation, OperationName};
pub use crate::outcome::Outcome;
pub use crate::reason::Reason;
pub use crate::recorder::{InstallError, Metrics};
pub use crate::registry::Registry;
pub use crate::scope::OperationHandle;
pub use crate::service::TransactionService;
#[cfg(feature = "mongodb")]
pub use crate::transaction::{
    Abort, ApplicationError, Committed, Transaction, TransactionError, TransactionListener, TransactionRunner,
};

/// The examples of the README compile.
#[cfg(all(doctest, feature = "axum", feature = "mongodb"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
