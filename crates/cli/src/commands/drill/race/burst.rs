//! Concurrent requests and their replies.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::commands::drill::backend::{Backend, Reply, Request, error_text};
use crate::commands::drill::scenario::file::{Race, Rejected, Statuses};
use crate::commands::drill::scenario::number::{MAX_DECIMALS, Number};

/// The statuses of a rejection, unless the scenario declares its own.
const REJECTED: [u16; 3] = [400, 409, 422];
/// Rate limiting, a gateway, or an unavailable database: the request may have been processed.
const UNAVAILABLE: [u16; 4] = [429, 502, 503, 504];

/// A number that is polled during a burst.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) path: String,
    pub(crate) pointer: String,
    pub(crate) at_least: Number,
}

/// The replies to concurrent requests.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// The index of the request in the scenario, and the reply.
    pub(crate) replies: Vec<(usize, Reply)>,
    /// For each watched number, the lowest value below its limit that a reader saw during the burst.
    pub(crate) below: Vec<Option<Number>>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Rejected,
    /// 5xx, and any response that the scenario does not declare.
    Failed,
    /// There was no response, or the backend was unavailable.
    Unknown,
}

/// The number of requests by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) succeeded: usize,
    pub(crate) rejected: usize,
    pub(crate) failed: usize,
    pub(crate) unknown: usize,
}

impl Count {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => self.succeeded += 1,
            Outcome::Rejected => self.rejected += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unknown => self.unknown += 1,
        }
    }

    /// The number of requests that may have taken effect without a success.
    pub(crate) const fn open(self) -> usize {
        self.unknown + self.failed
    }
}

impl Burst {
    /// Sends all requests at once, on open connections, and waits for all replies.
    pub(crate) async fn send(
        backend: &Backend,
        probe: &str,
        requests: Vec<(usize, Request)>,
        watched: &[Watched],
    ) -> Self {
        // Otherwise the request with the first connection would complete before the others are sent.
        let warm_up = requests.iter().map(|_| backend.get(probe));
        join_all(warm_up).await;
        let mut in_flight = JoinSet::new();
        for (index, request) in requests {
            let backend = backend.clone();
            in_flight.spawn(async move { (index, backend.send(request).await) });
        }
        let replies = async {
            let mut replies = Vec::new();
            while let Some(reply) = in_flight.join_next().await {
                replies.extend(reply.ok());
            }
            replies
        };
        let mut below = vec![None; watched.len()];
        let replies = tokio::select! {
            replies = replies => replies,
            never = watch(backend, watched, &mut below) => match never {},
        };
        Self { replies, below }
    }

    /// The outcomes of the requests with this index, or of all.
    pub(crate) fn count(&self, race: &Race, index: Option<usize>) -> Count {
        let mut count = Count::default();
        let replies = self.replies.iter().filter(|(of, _)| index.is_none_or(|index| index == *of));
        replies.for_each(|(_, reply)| count.add(outcome(race, reply)));
        count
    }

    /// The bodies of the successful responses.
    pub(crate) fn successes<'a>(&'a self, statuses: &'a Statuses) -> impl Iterator<Item = &'a Value> {
        self.replies.iter().filter_map(|(_, reply)| match reply {
            Reply::Received(status, body) if statuses.contains(*status) => Some(body),
            Reply::Received(..) | Reply::Missing(_) => None,
        })
    }
}

pub(crate) fn outcome(race: &Race, reply: &Reply) -> Outcome {
    let Reply::Received(status, body) = reply else { return Outcome::Unknown };
    let code = status.as_u16();
    let is_rejected = match race.rejected.as_slice() {
        [] => REJECTED.contains(&code),
        declared => {
            declared.iter().any(|rejected| rejected.status.contains(*status) && matches(rejected, body))
        }
    };
    match code {
        _ if race.success_status.contains(*status) => Outcome::Succeeded,
        _ if is_rejected => Outcome::Rejected,
        _ if UNAVAILABLE.contains(&code) => Outcome::Unknown,
        _ => Outcome::Failed,
    }
}

/// Whether a body has the declared text, if one is declared.
fn matches(rejected: &Rejected, body: &Value) -> bool {
    let Some(pointer) = &rejected.json else { return true };
    let Some(value) = body.pointer(&pointer.0) else { return false };
    match (&rejected.text, &rejected.prefix) {
        (None, None) => true,
        (Some(text), _) => value == text.get_ref().as_str(),
        (None, Some(prefix)) => value.as_str().is_some_and(|text| text.starts_with(prefix.get_ref())),
    }
}

async fn watch(backend: &Backend, watched: &[Watched], below: &mut [Option<Number>]) -> Infallible {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    loop {
        for (Watched { path, pointer, at_least }, lowest) in watched.iter().zip(below.iter_mut()) {
            let Reply::Received(_, body) = backend.get(path).await else { continue };
            let seen = body.pointer(pointer).and_then(|value| Number::from_json(value, MAX_DECIMALS).ok());
            if let Some(seen) = seen.filter(|seen| seen < at_least) {
                *lowest = Some(lowest.map_or(seen, |lowest| seen.min(lowest)));
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
    /// Counts replies, whose error message is at a pointer.
    pub(crate) fn add<'a>(&mut self, replies: impl IntoIterator<Item = &'a Reply>, error: &str) {
        for reply in replies {
            let kind = match reply {
                Reply::Received(status, body) => {
                    ReplyKind { status: Some(status.as_u16()), text: error_text(body, error) }
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
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::commands::drill::backend::MissingReply;
    use crate::commands::drill::race::tests::scenario;

    fn received(status: u16) -> Reply {
        Reply::Received(StatusCode::from_u16(status).unwrap(), json!({"error": "no"}))
    }

    #[test]
    fn each_reply_counts_as_one_outcome() {
        let race = scenario("");
        let mut replies: Vec<_> = [200, 201, 400, 409, 422, 500, 404, 302, 503, 429].map(received).to_vec();
        replies.push(Reply::Missing(MissingReply::Timeout));
        let indexed = replies.iter().cloned().enumerate().collect();
        let burst = Burst { replies: indexed, below: Vec::new() };
        assert_eq!(burst.count(&race, None), Count { succeeded: 2, rejected: 3, failed: 3, unknown: 3 });
        assert_eq!(burst.count(&race, Some(1)), Count { succeeded: 1, ..Count::default() });
        let mut counts = ReplyCounts::default();
        counts.add(&replies, "/error");
        counts.add(&replies[..1], "/error");
        assert_eq!(counts.total(), 12);
        let first = ReplyKind { status: Some(200), text: Some("no".to_owned()) };
        assert_eq!(counts.0[&first], 2);
    }

    #[test]
    fn declared_rejections_replace_the_default() {
        let race = scenario(
            "success_status = 204\n[[race.rejected]]\nstatus = [403, 503]\njson = \"/error\"\nprefix = \"n\"",
        );
        let outcomes = [204, 200, 403, 400, 503, 504].map(|status| outcome(&race, &received(status)));
        assert_eq!(outcomes, {
            use Outcome::{Failed, Rejected, Succeeded, Unknown};
            [Succeeded, Failed, Rejected, Failed, Rejected, Unknown]
        });
        let race = scenario("[[race.rejected]]\nstatus = 400\njson = \"/error\"\ntext = \"not this\"");
        assert_eq!(outcome(&race, &received(400)), Outcome::Failed);
    }
}
