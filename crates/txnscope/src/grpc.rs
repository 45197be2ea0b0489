//! Outcomes of gRPC responses, whose HTTP status is always 200.

use http::HeaderMap;

use crate::{Classification, Reason};

const STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");

/// Classifies a gRPC response without a body, such as a handler's `Err(Status)`, by its headers.
///
/// The status of a response with a body is in its trailers, which the layer does not see.
pub(crate) fn classification(headers: &HeaderMap) -> Option<Classification> {
    headers.get(STATUS).map(|status| Classification::from_grpc_status(status.as_bytes()))
}

impl Classification {
    /// The classification of a gRPC response by the value of `grpc-status`, in headers or trailers, by the table of
    /// [`Http`](crate::Http).
    #[must_use]
    pub fn from_grpc_status(status: &[u8]) -> Self {
        match status {
            b"0" => return Self::succeeded(),
            // Cancelled: returned by a handler whose caller is gone.
            b"1" => Self::rejected(Reason::CANCELLED),
            // Already exists, resource exhausted, failed precondition, aborted.
            b"6" | b"8" | b"9" | b"10" => Self::rejected(Reason::APPLICATION),
            // Invalid argument, not found, out of range, unimplemented (no such method).
            b"3" | b"5" | b"11" | b"12" => Self::rejected(Reason::INVALID_REQUEST),
            // Permission denied, unauthenticated.
            b"7" | b"16" => Self::rejected(Reason::UNAUTHORIZED),
            // Deadline exceeded.
            b"4" => Self::failed(Reason::TIMEOUT),
            // Unknown, internal, unavailable, data loss, and codes that gRPC does not define, which clients treat as
            // unknown.
            _ => Self::failed(Reason::OTHER),
        }
        .overridable()
    }
}
