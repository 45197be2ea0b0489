//! Many requests at once, and what was answered.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::drill::backend::{Answer, Backend, error_text};
use crate::drill::money::cents;

/// One request of a volley.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Its `Idempotency-Key`.
    pub(crate) key: Option<String>,
}

impl Shot {
    pub(crate) fn new(path: impl Into<String>, body: Value) -> Self {
        Self { path: path.into(), body, key: None }
    }
}

/// A balance that is read again and again while a volley is under way: nobody may ever see it negative.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) path: String,
    pub(crate) pointer: &'static str,
}

/// What became of a volley.
#[derive(Debug, Default)]
pub(crate) struct Volley {
    pub(crate) answers: Vec<Answer>,
    /// The least balance that a reader saw meanwhile, below zero.
    pub(crate) negative: Option<i64>,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) succeeded: usize,
    pub(crate) rejected: usize,
    /// 5xx and whatever else the API does not have: it was promised to be one of the two above.
    pub(crate) failed: usize,
    /// Nobody says whether it was done: no answer, or a backend that is not available.
    pub(crate) unsure: usize,
}

impl Volley {
    /// Sends all of them at once, on connections that are open already, and waits for every answer.
    pub(crate) async fn fire(backend: &Backend, shots: Vec<Shot>, watched: &[Watched]) -> Self {
        // Without this the first to be connected would have won before the others are on their way.
        let warm = shots.iter().map(|_| backend.get(WARM));
        join_all(warm).await;
        let mut under_way = JoinSet::new();
        for Shot { path, body, key } in shots {
            let backend = backend.clone();
            under_way.spawn(async move {
                match key {
                    Some(key) => backend.post_with_key(&path, &body, &key).await,
                    None => backend.post(&path, &body).await,
                }
            });
        }
        let answers = async {
            let mut answers = Vec::new();
            while let Some(answer) = under_way.join_next().await {
                answers.extend(answer.ok());
            }
            answers
        };
        let negative = &mut None;
        let answers = tokio::select! {
            answers = answers => answers,
            never = watch(backend, watched, negative) => match never {},
        };
        Self { answers, negative: *negative }
    }

    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for answer in &self.answers {
            match answer {
                Answer::Came(status, _) => match status.as_u16() {
                    200 | 201 => count.succeeded += 1,
                    400 | 409 | 422 => count.rejected += 1,
                    // Too many requests, a gateway's, or a database's absence: nobody has said no.
                    429 | 502 | 503 | 504 => count.unsure += 1,
                    _ => count.failed += 1,
                },
                Answer::None(_) => count.unsure += 1,
            }
        }
        count
    }

    /// The bodies of those that succeeded.
    pub(crate) fn successes(&self) -> impl Iterator<Item = &Value> {
        self.answers.iter().filter_map(|answer| match answer {
            Answer::Came(StatusCode::OK | StatusCode::CREATED, body) => Some(body),
            Answer::Came(..) | Answer::None(_) => None,
        })
    }
}

/// Any request that changes nothing.
const WARM: &str = "/api/retainers/000000000000000000000000";

async fn watch(backend: &Backend, watched: &[Watched], negative: &mut Option<i64>) -> Infallible {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    loop {
        for Watched { path, pointer } in watched {
            let Answer::Came(_, body) = backend.get(path).await else { continue };
            let seen = body.pointer(pointer).and_then(|balance| cents(balance).ok());
            if let Some(seen) = seen.filter(|seen| *seen < 0) {
                *negative = Some(negative.map_or(seen, |least| least.min(seen)));
            }
        }
        // A backend that refuses at once must not be asked without a pause.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Answers by what they said, over all rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally(pub(crate) BTreeMap<Said, u64>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Said {
    /// None if no answer came.
    pub(crate) status: Option<u16>,
    /// The backend's own words, or why none came.
    pub(crate) text: Option<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, answers: &[Answer]) {
        for answer in answers {
            let said = match answer {
                Answer::Came(status, body) => Said { status: Some(status.as_u16()), text: error_text(body) },
                Answer::None(none) => Said { status: None, text: Some(none.as_str().to_owned()) },
            };
            *self.0.entry(said).or_default() += 1;
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
    use crate::drill::backend::NoAnswer;

    #[test]
    fn each_answer_counts_as_one_thing() {
        let came = |status| Answer::Came(StatusCode::from_u16(status).unwrap(), json!({"error": "no"}));
        let mut answers: Vec<_> = [200, 201, 400, 409, 422, 500, 404, 302, 503, 429].map(came).to_vec();
        answers.push(Answer::None(NoAnswer::Timeout));
        let volley = Volley { answers: answers.clone(), negative: None };
        assert_eq!(volley.count(), Count { succeeded: 2, rejected: 3, failed: 3, unsure: 3 });
        let mut tally = Tally::default();
        tally.add(&answers);
        tally.add(&answers[..1]);
        assert_eq!(tally.total(), 12);
        let first = Said { status: Some(200), text: Some("no".to_owned()) };
        assert_eq!(tally.0[&first], 2);
    }
}
