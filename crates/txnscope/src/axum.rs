//! A verdict as a part of axum's responses.

use std::convert::Infallible;

use axum::response::{IntoResponseParts, ResponseParts};

use crate::Verdict;

impl IntoResponseParts for Verdict {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.extensions_mut().insert(self);
        Ok(parts)
    }
}
