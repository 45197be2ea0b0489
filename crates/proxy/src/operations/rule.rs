//! Rules: which response is which outcome, for which reason. And what decides where no rule does.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use txnscope::{Classification, Outcome, Reason};

/// A rule of the operations file.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(super) status: Option<StatusCode>,
    pub(super) place: Place,
    pub(super) text: Text,
    pub(super) outcome: Outcome,
    pub(super) reason: Reason,
}

/// Where a rule looks, besides at the status.
#[derive(Debug)]
pub(super) enum Place {
    Nowhere,
    Header(HeaderName),
    /// A JSON pointer into the body.
    Json(String),
}

/// What must stand there.
#[derive(Debug)]
pub(super) enum Text {
    /// Anything, as long as it is there.
    Any,
    Equals(String),
    Prefix(String),
}

impl Text {
    fn matches(&self, found: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Equals(text) => found == text,
            Self::Prefix(text) => found.starts_with(text.as_str()),
        }
    }

    /// Texts are compared as they are; numbers and truth values as JSON writes them.
    fn matches_value(&self, found: &Value) -> bool {
        match found {
            Value::Null => false,
            Value::String(text) => self.matches(text),
            Value::Bool(_) | Value::Number(_) => self.matches(&found.to_string()),
            Value::Array(_) | Value::Object(_) => matches!(self, Self::Any),
        }
    }
}

impl Rule {
    fn wants_status(&self, status: StatusCode) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
    }

    fn matches(&self, head: Head<'_>, body: Option<&Value>) -> bool {
        self.wants_status(head.status)
            && match &self.place {
                Place::Nowhere => true,
                Place::Header(name) => head
                    .headers
                    .get_all(name)
                    .iter()
                    .any(|value| value.to_str().is_ok_and(|value| self.text.matches(value.trim()))),
                Place::Json(pointer) => body
                    .and_then(|body| body.pointer(pointer))
                    .is_some_and(|value| self.text.matches_value(value)),
            }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(super) fn reason(&self) -> Reason {
        self.reason
    }

    fn classification(&self) -> Classification {
        if self.outcome == Outcome::Rejected {
            Classification::rejected(self.reason)
        } else {
            Classification::failed(self.reason)
        }
    }
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
}

/// Whether a rule may need the response's body: one that looks into JSON, for this status, and the body is JSON that is
/// not compressed.
pub(crate) fn wants_body<'a>(rules: impl IntoIterator<Item = &'a Rule>, head: Head<'_>) -> bool {
    let wanted = |rule: &Rule| matches!(rule.place, Place::Json(_)) && rule.wants_status(head.status);
    rules.into_iter().any(wanted) && is_plain_json(head.headers)
}

/// Whether the headers of the answer are needed to classify it: a rule may look at them, or they have gRPC's status.
pub(crate) fn needs_headers<'a>(rules: impl IntoIterator<Item = &'a Rule>, head: Head<'_>) -> bool {
    let looks = |rule: &Rule| matches!(rule.place, Place::Header(_)) && rule.wants_status(head.status);
    rules.into_iter().any(looks) || grpc_status(head.headers).is_some()
}

/// `application/json`, `application/problem+json`.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind.ends_with("/json") || kind.ends_with("+json");
    let is_plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes() == b"identity");
    is_json && is_plain
}

/// What became of an operation, by its response: the first rule that matches, else gRPC's status, else the HTTP status.
pub(crate) fn classify<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    head: Head<'_>,
    trailers: Option<&HeaderMap>,
    body: Option<&[u8]>,
) -> Classification {
    let body = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
    if let Some(rule) = rules.into_iter().find(|rule| rule.matches(head, body.as_ref())) {
        return rule.classification();
    }
    let grpc = trailers.and_then(grpc_status).or_else(|| grpc_status(head.headers));
    match grpc {
        Some(status) if head.status == StatusCode::OK => Classification::from_grpc_status(status),
        Some(_) | None => Classification::from_status(head.status),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get("grpc-status").map(http::HeaderValue::as_bytes)
}
