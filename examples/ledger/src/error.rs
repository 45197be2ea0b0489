//! The errors that clients receive, and their classification for the layer.

use std::borrow::Cow;
use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use txnscope::{Classification, Reason, TransactionError};

use crate::db_error::DbError;
use crate::operations::Rejection;
use crate::transaction::WorkError;

/// Any response other than success. The client receives a status and one sentence; the database's message goes to the
/// log.
#[derive(Debug)]
pub(crate) enum AppError {
    /// The request is invalid; the sentence says what to change.
    Invalid(Cow<'static, str>),
    /// The body does not match the route. The detail may repeat the input, so it is sent to the client and not
    /// logged.
    Unparsable {
        what: &'static str,
        line: usize,
        column: usize,
        detail: String,
    },
    BodyTooLarge,
    BodyTooSlow,
    /// No token, or (`true`) a wrong token.
    Unauthorized(bool),
    NoSuchRoute,
    MethodNotAllowed,
    Rejected(Rejection),
    Unavailable(DbError),
    CommitUnknown(DbError),
    Failed(DbError),
}

impl AppError {
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(message.into())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Unparsable { .. } => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Rejected(rejection) => rejection.status,
            Self::Unavailable(_) | Self::CommitUnknown(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn into_classification(self) -> Classification {
        match self {
            Self::Invalid(message) => Classification::rejected(Reason::INVALID_REQUEST).with_source(message),
            Self::Unparsable { what, line, column, .. } => Classification::rejected(Reason::INVALID_REQUEST)
                .with_source(format!("{what} at line {line} column {column}")),
            Self::BodyTooLarge | Self::BodyTooSlow | Self::NoSuchRoute | Self::MethodNotAllowed => {
                Classification::rejected(Reason::INVALID_REQUEST)
            }
            Self::Unauthorized(_) => Classification::rejected(Reason::UNAUTHORIZED),
            Self::Rejected(rejection) => Classification::rejected(rejection.reason),
            Self::Unavailable(fault) | Self::CommitUnknown(fault) | Self::Failed(fault) => {
                Classification::failed(fault.reason).with_source(fault)
            }
        }
    }
}

/// The sentence for the client.
impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Failed(fault) = self
            && let Some((document, field)) = fault.unreadable()
        {
            return write!(
                f,
                "The stored document {document} cannot be read at {field}; nothing was changed. An operator must \
                 correct it: the log has the details"
            );
        }
        if let Self::Unparsable { what, detail, .. } = self {
            return write!(f, "{what}: {detail}");
        }
        f.write_str(match self {
            Self::Unparsable { what, .. } => what,
            Self::Invalid(message) => message,
            Self::BodyTooLarge => "The body is larger than 16 kB",
            Self::BodyTooSlow => "The body did not arrive in time",
            Self::Unauthorized(false) => "Authorization: Bearer <token> is missing",
            Self::Unauthorized(true) => "The token is not valid",
            Self::NoSuchRoute => "No such route",
            Self::MethodNotAllowed => "Method not allowed; see the Allow header",
            Self::Rejected(rejection) => rejection.message,
            Self::Unavailable(_) => "The database is not available; nothing was changed, try again",
            Self::CommitUnknown(_) => {
                "It is unknown whether this took effect; retry with the same Idempotency-Key, or check the state first if there was none"
            }
            Self::Failed(_) => "Internal error; nothing was changed",
        })
    }
}

impl From<TransactionError<WorkError>> for AppError {
    fn from(error: TransactionError<WorkError>) -> Self {
        let fault = match error {
            TransactionError::Rejected { error: WorkError::Rejected(rejection), .. } => {
                return Self::Rejected(rejection);
            }
            TransactionError::CommitUnknown(failure) => {
                return Self::CommitUnknown(DbError::from(failure).counted_as(Reason::COMMIT_UNKNOWN));
            }
            TransactionError::Failed(failure) => DbError::from(failure),
            // The runner's rejections are expected outcomes, not defects.
            other => DbError::unexpected(&other),
        };
        fault.into()
    }
}

impl From<DbError> for AppError {
    fn from(fault: DbError) -> Self {
        if fault.is_away() { Self::Unavailable(fault) } else { Self::Failed(fault) }
    }
}

impl From<Rejection> for AppError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, [JSON], error_body(&self.to_string())).into_response();
        let headers = response.headers_mut();
        match &self {
            Self::Unauthorized(wrong) => {
                let challenge = if *wrong {
                    r#"Bearer realm="ledger", error="invalid_token""#
                } else {
                    r#"Bearer realm="ledger""#
                };
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Self::Unavailable(_) | Self::CommitUnknown(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            // The rest of the body is not read, so the connection cannot be reused.
            Self::BodyTooLarge | Self::BodyTooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self.into_classification());
        response
    }
}

/// The header of every response.
pub(crate) const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// `{"error": "…"}`
pub(crate) fn error_body(message: &str) -> String {
    format!(r#"{{"error":{}}}"#, serde_json::Value::from(message))
}
