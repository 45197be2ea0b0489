//! Concurrent requests and their replies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::commands::drill::backend::{Backend, Reply, error_text};
use crate::commands::drill::money::cents;

/// A request of a burst.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// The value of the header `Idempotency-Key`.
    pub(crate) key: Option<String>,
}

impl Request {
    pub(crate) fn new(path: impl Into<String>, body: Value) -> Self {
        Self { path: path.into(), body, key: None }
    }
}

/// A balance that is polled during a burst, and must never be negative.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) path: String,
    pub(crate) pointer: &'static str,
}

/// The replies to concurrent requests.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    pub(crate) replies: Vec<Reply>,
    /// The lowest negative balance that a reader saw during the burst.
    pub(crate) negative: Option<i64>,
}

/// The number of requests by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) succeeded: usize,
    pub(crate) rejected: usize,
    /// 5xx, and any status that the API does not define.
    pub(crate) failed: usize,
    /// The outcome is unknown: there was no response, or the backend was unavailable.
    pub(crate) unknown: usize,
}

impl Burst {
    /// Sends all requests at once, on open connections, and waits for all replies.
    pub(crate) async fn send(backend: &Backend, requests: Vec<Request>, watched: &[Watched]) -> Self {
        // Otherwise the request with the first connection would complete before the others are sent.
        let warm_up = requests.iter().map(|_| backend.get(WARM_UP));
        join_all(warm_up).await;
        let mut in_flight = JoinSet::new();
        for Request { path, body, key } in requests {
            let backend = backend.clone();
            in_flight.spawn(async move {
                match key {
                    Some(key) => backend.post_with_key(&path, &body, &key).await,
                    None => backend.post(&path, &body).await,
                }
            });
        }
        let replies = async {
            let mut replies = Vec::new();
            while let Some(reply) = in_flight.join_next().await {
                replies.extend(reply.ok());
            }
            replies
        };
        let negative = &mut None;
        let replies = tokio::select! {
            replies = replies => replies,
            never = watch(backend, watched, negative) => match never {},
        };
        Self { replies, negative: *negative }
    }

    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for reply in &self.replies {
            match reply {
                Reply::Received(status, _) => match status.as_u16() {
                    200 | 201 => count.succeeded += 1,
                    400 | 409 | 422 => count.rejected += 1,
                    // Rate limiting, a gateway, or an unavailable database: the request may have been processed.
                    429 | 502 | 503 | 504 => count.unknown += 1,
                    _ => count.failed += 1,
                },
                Reply::Missing(_) => count.unknown += 1,
            }
        }
        count
    }

    /// The bodies of the successful responses.
    pub(crate) fn successes(&self) -> impl Iterator<Item = &Value> {
        self.replies.iter().filter_map(|reply| match reply {
            Reply::Received(StatusCode::OK | StatusCode::CREATED, body) => Some(body),
            Reply::Received(..) | Reply::Missing(_) => None,
        })
    }
}

/// A path whose GET changes nothing.
const WARM_UP: &str = "/api/retainers/000000000000000000000000";

async fn watch(backend: &Backend, watched: &[Watched], negative: &mut Option<i64>) -> Infallible {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    loop {
        for Watched { path, pointer } in watched {
            let Reply::Received(_, body) = backend.get(path).await else { continue };
            let seen = body.pointer(pointer).and_then(|balance| cents(balance).ok());
            if let Some(seen) = seen.filter(|seen| *seen < 0) {
                *negative = Some(negative.map_or(seen, |lowest| lowest.min(seen)));
            }
        }
        // A backend that rejects immediately must not be polled in a busy loop.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The number of replies of each kind, over all rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReplyCounts(pub(crate) BTreeMap<ReplyKind, u64>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReplyKind {
    /// None if there was no response.
    pub(crate) status: Option<u16>,
    /// The error message of the backend, or why there was no response.
    pub(crate) text: Option<String>,
}

impl ReplyCounts {
    pub(crate) fn add(&mut self, replies: &[Reply]) {
        for reply in replies {
            let kind = match reply {
                Reply::Received(status, body) => {
                    ReplyKind { status: Some(status.as_u16()), text: error_text(body) }
                }
                Reply::Missing(cause) => ReplyKind { status: None, text: Some(cause.as_str().to_owned()) },
            };
            *self.0.entry(kind).or_default() += 1;
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::commands::drill::backend::MissingReply;

    #[test]
    fn each_reply_counts_as_one_outcome() {
        let received =
            |status| Reply::Received(StatusCode::from_u16(status).unwrap(), json!({"error": "no"}));
        let mut replies: Vec<_> = [200, 201, 400, 409, 422, 500, 404, 302, 503, 429].map(received).to_vec();
        replies.push(Reply::Missing(MissingReply::Timeout));
        let burst = Burst { replies: replies.clone(), negative: None };
        assert_eq!(burst.count(), Count { succeeded: 2, rejected: 3, failed: 3, unknown: 3 });
        let mut counts = ReplyCounts::default();
        counts.add(&replies);
        counts.add(&replies[..1]);
        assert_eq!(counts.total(), 12);
        let first = ReplyKind { status: Some(200), text: Some("no".to_owned()) };
        assert_eq!(counts.0[&first], 2);
    }
}
