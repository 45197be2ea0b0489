//! Whether the backend is set up so that what it measures can be told apart, and alerted on.

use super::finding::Finding;
use crate::services::Trouble;
use crate::services::prometheus::{Prometheus, Sample, plain};

const SET_UP: &str = "backend set up";

/// Of operations that were asked for often enough, those that most callers are said to have left.
const LEFT: &str = "sum by (job, operation) (increase(transaction_duration_seconds_count{outcome=\"cancelled\"}[1h])) \
                    / (sum by (job, operation) (increase(transaction_attempts_total[1h])) > 20) > 0.5";

/// Requests that succeed and match no route.
const UNMATCHED: &str = "sum by (job) (increase(transaction_duration_seconds_count{operation=\"unmatched\",\
                         outcome=\"succeeded\"}[1h])) > 0";

/// Looks at the last hour of what the backends count.
pub(crate) async fn set_up(prometheus: &Prometheus) -> Finding {
    match (prometheus.query(LEFT, None).await, prometheus.query(UNMATCHED, None).await) {
        (Ok(left), Ok(unmatched)) => found(&left, &unmatched),
        (Err(trouble), _) | (_, Err(trouble)) => not_known(&trouble),
    }
}

fn not_known(trouble: &Trouble) -> Finding {
    Finding::warn(SET_UP, format!("not known: {trouble}"), "run it again; see Prometheus's log")
}

fn found(left: &[Sample], unmatched: &[Sample]) -> Finding {
    let label = |sample: &Sample, name: &str| plain(sample.labels.get(name).map_or("?", String::as_str));
    if !unmatched.is_empty() {
        let jobs: Vec<_> = unmatched.iter().map(|sample| label(sample, "job")).collect();
        return Finding::warn(
            SET_UP,
            format!(
                "requests of {} succeed and match no route: all are one operation, `unmatched`",
                jobs.join(", ")
            ),
            "put the TransactionLayer inside of the router (Router::layer), use axum 0.8, or name the operations",
        );
    }
    if !left.is_empty() {
        let operations: Vec<_> = left
            .iter()
            .map(|sample| {
                let share = (100.0 * sample.value).round();
                format!("{share} % of {} of {}", label(sample, "operation"), label(sample, "job"))
            })
            .collect();
        return Finding::warn(
            SET_UP,
            format!("cancelled in the last hour: {}", operations.join(", ")),
            "if their callers have not left, a time limit stands outside of the TransactionLayer: put it inside, where \
             it counts as failed",
        );
    }
    Finding::pass(SET_UP, "no operation is mostly cancelled, and none of those that succeed is unmatched")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Sample { labels, value }
    }

    #[test]
    fn a_time_limit_outside_of_the_layer_is_hinted_at() {
        let left = [sample(&[("job", "shop"), ("operation", "POST /pay")], 0.974)];
        let finding = found(&left, &[]);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.evidence.contains("97 % of POST /pay of shop"), "{finding:?}");
        assert!(finding.cure.unwrap().contains("put it inside"));
    }

    #[test]
    fn requests_that_succeed_and_match_no_route_are_hinted_at() {
        let finding = found(&[], &[sample(&[("job", "shop")], 3.0)]);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.evidence.contains("shop") && finding.cure.unwrap().contains("axum 0.8"));
        assert_eq!(found(&[], &[]).verdict, Verdict::Pass);
    }
}
