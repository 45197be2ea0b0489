//! Authentication with a bearer token.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::error::AppError;
use crate::state::Ledger;

/// The token of the clients. Only its digest is stored, so that it can be compared in constant time for any length,
/// and never appears in a log.
#[derive(Clone, Copy)]
pub struct Token([u8; 32]);

impl Token {
    /// A token of visible ASCII characters, which a header can carry. Surrounding white space is trimmed, because a
    /// file usually ends with a line break.
    ///
    /// # Errors
    ///
    /// If the token is empty, or contains characters that a header cannot carry.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        match text.trim() {
            "" => Err(TokenError::Empty),
            token if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self(digest(token.as_bytes()))),
            _ => Err(TokenError::Unsendable),
        }
    }

    fn matches(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(&digest(presented)).into()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The error of an invalid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The token is empty.
    #[error("the token is empty")]
    Empty,
    /// The token contains white space, control characters or non-ASCII letters.
    #[error("the token must consist of visible ASCII characters, without spaces inside")]
    Unsendable,
}

/// Middleware that rejects requests without the token.
pub(crate) async fn require_token(
    State(ledger): State<Ledger>,
    request: Request,
    next: Next,
) -> Result<Response, AppError> {
    match bearer(request.headers()) {
        None => Err(AppError::Unauthorized(false)),
        Some(token) if ledger.token().matches(token) => Ok(next.run(request).await),
        Some(_) => Err(AppError::Unauthorized(true)),
    }
}

/// The credentials of `Authorization: Bearer …`; the scheme is case insensitive.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn token_is_compared_in_full() {
        let token = Token::new(" s3cret\n").unwrap();
        assert!(token.matches(b"s3cret"));
        for wrong in [&b""[..], b"s3cre", b"s3crets", b"S3CRET"] {
            assert!(!token.matches(wrong));
        }
    }

    #[test]
    fn token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token(..)");
    }

    #[test]
    fn token_with_invalid_header_characters_is_rejected() {
        assert_eq!(Token::new(" \n").unwrap_err(), TokenError::Empty);
        for text in ["two words", "two\nlines", "schlüssel"] {
            assert_eq!(Token::new(text).unwrap_err(), TokenError::Unsendable);
        }
    }

    #[test]
    fn bearer_scheme_is_parsed_case_insensitively() {
        for (value, token) in [
            ("Bearer abc", Some(&b"abc"[..])),
            ("bearer  abc", Some(b"abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("abc", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), token, "{value}");
        }
        let mut twice = HeaderMap::new();
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer xyz"));
        assert_eq!(bearer(&twice), None);
    }
}
