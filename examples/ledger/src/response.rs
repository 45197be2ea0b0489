//! A response that was decided in a transaction, as bytes that can be recorded and replayed.

use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use txnscope::{Classification, Reason};

use crate::dto::Named;
use crate::error::{JSON, error_body};
use crate::operations::Rejection;

/// A status and a JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// The reason, if it is a rejection.
    pub(crate) rejected: Option<Reason>,
    /// Whether the response is replayed from a record.
    pub(crate) replayed: bool,
}

impl Reply {
    /// 200 with `{"name": {…}}`.
    pub(crate) fn ok<T: Serialize>(name: &'static str, value: &T) -> Self {
        Self::new(StatusCode::OK, name, value)
    }

    /// 201 with `{"name": {…}}`.
    pub(crate) fn created<T: Serialize>(name: &'static str, value: &T) -> Self {
        Self::new(StatusCode::CREATED, name, value)
    }

    /// # Panics
    ///
    /// If the value cannot be represented in JSON. Our documents are structs of strings, numbers and arrays, which
    /// can.
    #[allow(clippy::expect_used, reason = "a document that cannot be JSON is a bug, not a state of the data")]
    fn new<T: Serialize>(status: StatusCode, name: &'static str, value: &T) -> Self {
        let body = serde_json::to_string(&Named(name, value)).expect("a document has a JSON form");
        Self { status, body, rejected: None, replayed: false }
    }
}

impl From<Rejection> for Reply {
    fn from(rejection: Rejection) -> Self {
        Self {
            status: rejection.status,
            body: error_body(rejection.message),
            rejected: Some(rejection.reason),
            replayed: false,
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, [JSON], self.body).into_response();
        if self.replayed {
            response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        if let Some(reason) = self.rejected {
            response.extensions_mut().insert(Classification::rejected(reason));
        }
        response
    }
}
