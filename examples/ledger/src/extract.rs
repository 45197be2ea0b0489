//! Extractors. Input that cannot be read is rejected with a sentence that says what to change.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, OriginalUri, Path, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use mongodb::bson::oid::ObjectId;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::connections::Stopping;
use crate::error::AppError;
use crate::idempotency::Key;
use crate::identifier::{identifier, is_blank};

/// The maximum size of a body.
pub(crate) const MAX_BODY: usize = 16 * 1024;
/// The time limit of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of documents of a page, if the client does not choose it, and its maximum.
const DEFAULT_LIMIT: u8 = 50;
const MAX_LIMIT: u8 = 100;
/// The maximum length of a name, number or description, in characters.
const MAX_TEXT: usize = 200;

/// A JSON body with its idempotency key.
#[derive(Debug)]
pub(crate) struct Posted<T> {
    pub(crate) body: T,
    pub(crate) key: Option<Key>,
}

/// No body, or an empty object.
#[derive(Debug)]
pub(crate) struct Nothing;

/// Parses a body into a value.
pub(crate) trait FromBody: Sized {
    fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Self, AppError>;
}

impl<T: DeserializeOwned> FromBody for T {
    fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Self, AppError> {
        require_json(headers)?;
        parse(body)
    }
}

impl FromBody for Nothing {
    fn from_body(headers: &HeaderMap, body: &[u8]) -> Result<Self, AppError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self);
        }
        require_json(headers)?;
        parse::<std::collections::BTreeMap<String, IgnoredAny>>(body).map(|_| Self)
    }
}

impl<S: Send + Sync, T: FromBody> FromRequest<S> for Posted<T> {
    type Rejection = AppError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        let (mut parts, body) = request.into_parts();
        let path = route_path(&mut parts, state).await?;
        let request = Request::from_parts(parts.clone(), body);
        let read = tokio::select! {
            biased;
            read = Bytes::from_request(request, state) => read,
            () = late(&parts) => return Err(AppError::BodyTooSlow),
        };
        let body = read.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => AppError::BodyTooLarge,
            _ => AppError::invalid("The body could not be read"),
        })?;
        Ok(Self {
            key: Key::of(parts.method.as_str(), &path, &parts.headers, &body)?,
            body: T::from_body(&parts.headers, &body)?,
        })
    }
}

/// Waits until the time limit of a body, or until the server shuts down: incomplete bodies are not awaited then.
async fn late(parts: &Parts) {
    let time = tokio::time::sleep(BODY_TIMEOUT);
    match parts.extensions.get::<Stopping>() {
        Some(stopping) => tokio::select! { () = time => {}, () = stopping.begins() => {} },
        None => time.await,
    }
}

/// The matched route with its decoded parameters: the same for every encoding of the path.
async fn route_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<String, AppError> {
    let route = MatchedPath::from_request_parts(parts, state).await.map_err(|_| AppError::NoSuchRoute)?;
    let given = RawPathParams::from_request_parts(parts, state).await.map_err(|_| malformed_id("path"))?;
    let mut path = route.as_str().to_owned();
    for (name, value) in &given {
        path = path.replace(&format!("{{{name}}}"), value);
    }
    Ok(path)
}

/// The path as sent by the client, because a nested router sees a shorter URI.
async fn original_path<S: Send + Sync>(parts: &mut Parts, state: &S) -> String {
    let Ok(OriginalUri(uri)) = OriginalUri::from_request_parts(parts, state).await;
    uri.path().to_owned()
}

fn require_json(headers: &HeaderMap) -> Result<(), AppError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(AppError::invalid("Content-Type must be application/json"))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, AppError> {
    serde_json::from_slice(body).map_err(|error| AppError::Unparsable {
        what: if error.is_data() { "Invalid body" } else { "Malformed JSON" },
        line: error.line(),
        column: error.column(),
        // The message may repeat input of any length.
        detail: error.to_string().chars().take(200).collect(),
    })
}

/// The id in the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntityId(pub(crate) ObjectId);

impl<S: Send + Sync> FromRequestParts<S> for EntityId {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AppError> {
        // An id never needs percent-encoding. If it were accepted, one id could have several idempotency keys.
        if original_path(parts, state).await.contains('%') {
            return Err(malformed_id("id"));
        }
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => object_id("id", &id).map(Self),
            // The path is not UTF-8; anything else would be a route without an id, which is a defect.
            Err(rejection) if rejection.status().is_client_error() => Err(malformed_id("id")),
            Err(_) => Err(AppError::NoSuchRoute),
        }
    }
}

/// The part of a list that the client requests: at most `limit` documents, which follow the document `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageQuery {
    pub(crate) after: Option<ObjectId>,
    pub(crate) limit: u8,
}

impl PageQuery {
    /// Neither value needs percent-encoding. Other parameters are ignored, as other fields of a body are.
    fn parse(query: &str) -> Result<Self, AppError> {
        let (mut after, mut limit) = (None, None);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let repeated = match name {
                "after" => after.replace(object_id("after", value)?).is_some(),
                "limit" => limit.replace(page_limit(value)?).is_some(),
                _ => false,
            };
            if repeated {
                return Err(AppError::invalid("after and limit may be given once"));
            }
        }
        Ok(Self { after, limit: limit.unwrap_or(DEFAULT_LIMIT) })
    }
}

fn page_limit(text: &str) -> Result<u8, AppError> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| AppError::invalid(format!("limit must be a whole number from 1 to {MAX_LIMIT}")))
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AppError> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Parses an id in a path, a query or a body.
pub(crate) fn object_id(field: &'static str, text: &str) -> Result<ObjectId, AppError> {
    ObjectId::parse_str(text).map_err(|_| malformed_id(field))
}

fn malformed_id(field: &'static str) -> AppError {
    AppError::invalid(format!("Malformed {field}: it must be 24 hexadecimal digits"))
}

/// A text that must not be empty.
pub(crate) fn text(field: &'static str, text: String) -> Result<String, AppError> {
    if is_blank(&text) {
        return Err(AppError::invalid(format!("{field} must not be empty")));
    }
    short(field, text)
}

/// An identifier: a text without surrounding white space and without invisible characters.
pub(crate) fn reference(field: &'static str, text: &str) -> Result<String, AppError> {
    short(field, identifier(field, text)?)
}

/// A text that may be empty.
pub(crate) fn short(field: &'static str, text: String) -> Result<String, AppError> {
    if text.chars().count() > MAX_TEXT {
        return Err(AppError::invalid(format!("{field} must have at most {MAX_TEXT} characters")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_query_is_bounded() {
        let parse =
            |query| PageQuery::parse(query).map(|page| (page.after.map(|id| id.to_hex()), page.limit));
        let id = "0123456789abcdef01234567";
        for (query, after, limit) in [
            ("", None, 50),
            ("limit=1", None, 1),
            ("limit=100&x=%20&y", None, 100),
            ("after=0123456789ABCDEF01234567&limit=7", Some(id), 7),
        ] {
            assert_eq!(parse(query).unwrap(), (after.map(str::to_owned), limit), "{query}");
        }
        for (query, message) in [
            ("limit=0", "limit must be a whole number from 1 to 100"),
            ("limit=101", "limit must be a whole number from 1 to 100"),
            ("limit=300", "limit must be a whole number from 1 to 100"),
            ("limit=", "limit must be a whole number from 1 to 100"),
            ("limit=%31", "limit must be a whole number from 1 to 100"),
            ("after=7", "Malformed after: it must be 24 hexadecimal digits"),
            ("limit=1&limit=2", "after and limit may be given once"),
        ] {
            assert_eq!(parse(query).unwrap_err().to_string(), message, "{query}");
        }
    }
}
