//! Export of the store as Prometheus metric families, with the catalog's names, types and help texts.
//!
//! The page is built from the store at each scrape, and there is no registry of counters: the values belong to MongoDB,
//! so they are set and not incremented, and a member that has left leaves no series behind.

use std::collections::BTreeMap;
use std::iter;

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use tokio::time::Instant;
use txnscope_catalog as catalog;
use txnscope_catalog::{Kind, Metric};

use crate::checks;
use crate::error::PollErrorReason;
use crate::sample_set::{Histogram, Value};
use crate::snapshot::{MemberState, PollHistory};
use crate::store::MetricStore;

/// The current metric families of a page, sorted by name and labels. Does not block and contacts no server.
pub(crate) fn families(store: &MetricStore) -> Vec<MetricFamily> {
    let (mut families, now) = (FamilyBuilder::default(), Instant::now());
    families.number(&catalog::TXNSCOPE_BUILD_INFO, &[env!("CARGO_PKG_VERSION"), store.revision()], 1.0);
    if let Some(reloads) = store.reloads() {
        let (successful, at) = reloads.last();
        families.number(&catalog::TXNSCOPE_CONFIG_RELOAD_SUCCESSFUL, &[], f64::from(u8::from(successful)));
        families.number(&catalog::TXNSCOPE_CONFIG_RELOAD_TIMESTAMP, &[], at);
    }
    if let Some(logins) = store.logins() {
        for (result, count) in catalog::FAILED_LOGIN_RESULTS.iter().zip(logins.failed()) {
            #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
            families.number(&catalog::TXNSCOPE_FAILED_LOGINS, &[result], count as f64);
        }
    }
    for member in store.members() {
        add_member(&mut families, &member, now);
    }
    checks::export_checks(&mut families, &store.check_results(), now);
    for (metric, value) in catalog::process_now() {
        families.number(metric, &[], value);
    }
    families.build()
}

fn add_member(families: &mut FamilyBuilder, member: &MemberState, now: Instant) {
    let rs = member.rs();
    let member_labels = [rs.as_str(), member.address()];
    // One copy for all series of a collector: a poll may end meanwhile, and a member that is down has no new numbers.
    let status = member.status().history();
    if let Some(up) = status.up(now) {
        families.number(&catalog::MONGODB_UP, &member_labels, f64::from(u8::from(up)));
    }
    let others = member.others().iter().map(|collector| (collector.name(), collector.history()));
    for (name, history) in iter::once((member.status().name(), status)).chain(others) {
        add_collector(families, [member_labels[0], member_labels[1], name], &history, now);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other number than f64")]
fn add_collector(
    families: &mut FamilyBuilder,
    collector_labels: [&str; 3],
    history: &PollHistory,
    now: Instant,
) {
    if let Some(last) = history.last {
        let success = last.failure.is_none();
        families.number(&catalog::TXNSCOPE_POLL_SUCCESS, &collector_labels, f64::from(u8::from(success)));
        families.number(&catalog::TXNSCOPE_POLL_DURATION, &collector_labels, last.took.as_secs_f64());
    }
    if let Some(age) = history.age(now) {
        families.number(&catalog::TXNSCOPE_POLL_AGE, &collector_labels, age.as_secs_f64());
    }
    for (reason, failures) in PollErrorReason::ALL.into_iter().zip(history.failures) {
        let labels = [collector_labels[0], collector_labels[1], collector_labels[2], reason.as_str()];
        families.number(&catalog::TXNSCOPE_POLL_ERRORS, &labels, failures as f64);
    }
    families.number(&catalog::TXNSCOPE_SERIES_DROPPED, &collector_labels, history.dropped as f64);
    for sample in history.fresh(now).iter().flat_map(|samples| samples.as_slice()) {
        let labels: Vec<_> =
            collector_labels[..2].iter().copied().chain(sample.labels.iter().map(AsRef::as_ref)).collect();
        match &sample.value {
            Value::Number(number) => families.number(sample.metric, &labels, *number),
            Value::Histogram(histogram) => families.histogram(sample.metric, &labels, histogram),
        }
    }
}

/// Metric families by name.
#[derive(Default)]
pub(crate) struct FamilyBuilder(BTreeMap<&'static str, MetricFamily>);

impl FamilyBuilder {
    pub(crate) fn number(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let mut sample = labeled_metric(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.family(metric).mut_metric().push(sample);
    }

    fn histogram(&mut self, metric: &'static Metric, labels: &[&str], histogram: &Histogram) {
        let Histogram { cumulative, count, sum } = histogram;
        let buckets = metric.buckets.iter().zip(cumulative).map(|(bound, cumulative)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*cumulative);
            bucket
        });
        let mut encoded = proto::Histogram::default();
        encoded.set_bucket(buckets.collect());
        encoded.set_sample_count(*count);
        encoded.set_sample_sum(*sum);
        let mut sample = labeled_metric(metric, labels);
        sample.set_histogram(encoded);
        self.family(metric).mut_metric().push(sample);
    }

    fn build(self) -> Vec<MetricFamily> {
        let mut families: Vec<_> = self.0.into_values().collect();
        for family in &mut families {
            family.mut_metric().sort_by(|one, other| {
                let values = |metric| proto::Metric::get_label(metric).iter().map(LabelPair::value);
                values(one).cmp(values(other))
            });
        }
        families
    }

    fn family(&mut self, metric: &'static Metric) -> &mut MetricFamily {
        self.0.entry(metric.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family
        })
    }
}

fn labeled_metric(metric: &Metric, values: &[&str]) -> proto::Metric {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(values).map(|(label, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(label.name.to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use prometheus::TextEncoder;
    use testkit::Scrape;

    use super::*;
    use crate::decode::Field;
    use crate::sample_set::SampleSet;
    use crate::snapshot::Snapshot;

    const SECOND: Duration = Duration::from_secs(1);

    fn snapshot(address: &str) -> (Snapshot, Arc<MemberState>) {
        let snapshot = Snapshot::default();
        let names = ["current_op"].into_iter();
        let member = Arc::new(MemberState::new(address.to_owned(), "rs0".into(), names));
        snapshot.insert(Arc::clone(&member));
        (snapshot, member)
    }

    fn scrape(snapshot: &Snapshot) -> Scrape {
        let families = families(&snapshot.clone().into());
        Scrape::parse(&TextEncoder::new().encode_to_string(&families).unwrap()).unwrap()
    }

    fn uptime() -> SampleSet {
        let mut samples = SampleSet::default();
        samples.number(&catalog::MONGODB_UPTIME, &[], Field::Value(7.5));
        samples
    }

    #[tokio::test(start_paused = true)]
    async fn stale_families_are_dropped_and_poll_metrics_stay() {
        let (snapshot, member) = snapshot("db1:27017");
        let page = scrape(&snapshot);
        assert!(page.family("mongodb_up").is_none(), "no poll has ended");
        assert_eq!(
            page.matching("txnscope_poll_errors_total", &[("collector", "current_op")]).count(),
            PollErrorReason::ALL.len()
        );

        member.status().record(Instant::now(), SECOND, Ok(uptime()));
        let page = scrape(&snapshot);
        let member_labels = [("rs", "rs0"), ("member", "db1:27017")];
        assert_eq!(page.value("mongodb_uptime_seconds", &member_labels), Some(7.5));
        assert_eq!(page.value("mongodb_up", &member_labels), Some(1.0));

        tokio::time::advance(4 * SECOND).await;
        let page = scrape(&snapshot);
        assert!(page.family("mongodb_uptime_seconds").is_none());
        assert_eq!(page.value("mongodb_up", &member_labels), Some(0.0));
        assert_eq!(page.value("txnscope_poll_age_seconds", &member_labels), Some(4.0));
    }

    /// Polls may end while a page is built.
    #[test]
    fn page_is_consistent_while_polls_end() {
        let (snapshot, member) = snapshot("db1:27017");
        let record = |result| member.status().record(Instant::now(), SECOND, result);
        record(Ok(uptime()));
        std::thread::scope(|threads| {
            let pages = threads.spawn(|| {
                for _ in 0..2_000 {
                    let page = scrape(&snapshot);
                    let success = page.value("txnscope_poll_success", &[("collector", "server_status")]);
                    assert_eq!(page.value("mongodb_up", &[]), success);
                }
            });
            while !pages.is_finished() {
                record(Err(PollErrorReason::Network));
                record(Ok(uptime()));
            }
        });
    }

    #[tokio::test]
    async fn malicious_address_cannot_escape_its_label() {
        let malicious = "a\"} 1\n# evil{x=\"\\";
        let (snapshot, member) = snapshot(malicious);
        member.status().record(Instant::now(), SECOND, Ok(uptime()));
        assert_eq!(scrape(&snapshot).value("mongodb_up", &[("member", malicious)]), Some(1.0));
    }
}
