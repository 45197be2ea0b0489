//! A tower layer and a transaction runner that make MongoDB transactions observable on the caller's side.
//!
//! ```console
//! $ cargo add txnscope --features mongodb
//! ```
//!
//! [`TransactionLayer`] wraps a router, a route or any tower service. The layer counts and times each operation that
//! passes through it exactly once: succeeded, rejected, failed, cancelled or panicked. Code below the layer sees the
//! operation as the current [`scope`].
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
//!     // The balance is too low: classify the response as a rejection, which triggers no alert.
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
//! Attempts are the sum of the durations' counts and the operations in flight. Every operation that did not succeed
//! is logged once, with the fields of the span that the handler [attached](scope::attach_span).
//!
//! # Where to put the layer
//!
//! Put the layer around routes: `Router::layer`, `Router::route_layer`, or inside of `nest` and `nest_service`, where
//! axum has already matched a route template. A layer around a whole `Router` (as a service), or outside of
//! `nest_service`, runs before axum has matched, so that every request would be `unmatched`: name operations with
//! [`TransactionLayer::name_operations`] there. The layer reads the `MatchedPath` of axum **0.8**; with another
//! version every request is `unmatched`, too. The first `unmatched` request that succeeds is logged as a warning.
//!
//! Put timeouts inside of the layer (add the timeout layer before this one, since the last layer added is the
//! outermost): a timed-out request is then `failed`, with the reason `timeout`. A timeout outside of the layer drops
//! the layer's future, as a disconnecting client does: an outage in which every request times out would count as
//! `cancelled`, which triggers no alert.
//!
//! Two nested layers count an operation once, if both have the same name for it. Around `nest_service`, a layer
//! inside and a layer outside count two operations: the inner layer knows the template, the outer one counts
//! `unmatched`. A route that calls other routes in the same process counts each of those calls as an operation.
//!
//! # What a request is counted as
//!
//! - The measured time ends with the response's head. A streamed body, server-sent events and WebSocket messages come
//!   later and are not measured.
//! - A client that disconnects while the handler runs is `cancelled`. A client that disconnects during its upload is
//!   `rejected`, with the reason `invalid_request`: the extractor that reads the body sees a bad request, and answers
//!   400.
//! - The [`Classification`] travels in the response's extensions. A middleware between handler and layer that creates
//!   a new response loses the classification, and the status decides, unless the middleware copies the extensions.
//!
//! # Cost
//!
//! At steady state a request allocates nothing and reads the clock twice. The log event, the first request of an
//! operation, and [`scope::current`] allocate.
//!
//! # Features
//!
//! - `axum` (default): route templates, [`Classification`] as a response part, a `/metrics` router
//! - `http`: operations and outcomes of `http` requests, with names that the application provides
//! - `mongodb`: the [transaction runner](transaction) and the [listener](transaction::listener), on the `mongodb` driver
//!
//! Without any feature, the layer wraps any tower service.

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
    Abort, ApplicationError, Committed, ConnectionPoolListener, Transaction, TransactionError,
    TransactionListener, TransactionRunner,
};

/// Compiles the examples of this crate's README.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct CrateReadme;

/// Compiles the README's examples.
#[cfg(all(doctest, feature = "axum", feature = "mongodb"))]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// Compiles the examples of docs/instrument.md.
#[cfg(all(doctest, feature = "axum", feature = "mongodb"))]
#[doc = include_str!("../../../docs/instrument.md")]
struct Instrument;

/// Compiles the examples of docs/migrate.md.
#[cfg(all(doctest, feature = "axum", feature = "mongodb"))]
#[doc = include_str!("../../../docs/migrate.md")]
struct Migrate;

/// Compiles the examples of docs/transactions.md.
#[cfg(all(doctest, feature = "axum", feature = "mongodb"))]
#[doc = include_str!("../../../docs/transactions.md")]
struct Transactions;
