//! `Classification` as a response part of axum.

use std::convert::Infallible;

use axum::response::{IntoResponseParts, ResponseParts};

use crate::Classification;

impl IntoResponseParts for Classification {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}
