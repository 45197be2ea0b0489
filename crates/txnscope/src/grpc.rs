//! Outcomes of gRPC responses, whose HTTP status is always 200.

use http::HeaderMap;

use crate::{Reason, Verdict};

const STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");

/// What the headers say of a gRPC response that consists of nothing else: a handler's `Err(Status)`.
///
/// The status of a response with a body comes in its trailers, when the layer is done with it.
pub(crate) fn verdict(headers: &HeaderMap) -> Option<Verdict> {
    Some(
        match headers.get(STATUS)?.as_bytes() {
            b"0" => return Some(Verdict::succeeded()),
            // Cancelled, which a handler says when its caller is gone.
            b"1" => Verdict::rejected(Reason::CANCELLED),
            // Already exists, resource exhausted, failed precondition, aborted.
            b"6" | b"8" | b"9" | b"10" => Verdict::rejected(Reason::APPLICATION),
            // Invalid argument, not found, out of range, unimplemented: nobody offers such a method.
            b"3" | b"5" | b"11" | b"12" => Verdict::rejected(Reason::INVALID_REQUEST),
            // Permission denied, unauthenticated.
            b"7" | b"16" => Verdict::rejected(Reason::UNAUTHORIZED),
            // Deadline exceeded.
            b"4" => Verdict::failed(Reason::TIMEOUT),
            // Unknown, internal, unavailable, data loss, and what gRPC does not define, which it has read as unknown.
            _ => Verdict::failed(Reason::OTHER),
        }
        .yielding(),
    )
}
