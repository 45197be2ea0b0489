//! `network.ingressRequestRateLimiter`: admitted and rejected requests. Servers from 8.2 and 8.0.20 on.

use mongodb::bson::Document;
use txnscope_catalog as catalog;

use crate::collector::fields::{self, FieldMapping, number_field};
use crate::decode::{Field, number, text};
use crate::sample_set::SampleSet;

const fn result(label: &'static [&'static str], path: &'static [&'static str]) -> FieldMapping {
    number_field(&catalog::MONGODB_INGRESS_REQUESTS, path).of(label)
}

const FIELDS: &[FieldMapping] = &[
    result(&["admitted"], &["network", "ingressRequestRateLimiter", "successfulAdmissions"]),
    result(&["rejected"], &["network", "ingressRequestRateLimiter", "rejectedAdmissions"]),
    result(&["exempted"], &["network", "ingressRequestRateLimiter", "exemptedAdmissions"]),
    number_field(
        &catalog::MONGODB_INGRESS_TOKENS,
        &["network", "ingressRequestRateLimiter", "totalAvailableTokens"],
    ),
];

/// Whether the server can have a rate limiter. If not, the section `network` is excluded, which is a large part
/// of the reply.
#[derive(Debug, Default)]
pub(super) struct RateLimiterSupport {
    is_too_old: bool,
}

impl RateLimiterSupport {
    pub(super) fn needs_section(&self, section: &str) -> bool {
        section != "network" || !self.is_too_old
    }

    /// Called for each reply, since the server may have been upgraded.
    pub(super) fn update(&mut self, reply: &Document) {
        let version = text(reply, &["version"]).ok().unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.is_too_old = major.is_some_and(|major| major < 8);
    }
}

pub(super) fn read(samples: &mut SampleSet, reply: &Document) {
    fields::read(samples, reply, FIELDS);
    let of = |field| number(reply, &["network", "ingressRequestRateLimiter", field]);
    // Some versions have no queue length, but all have the counters.
    let queue = match of("currentQueueDepth") {
        Field::Missing => {
            of("addedToQueue").combine(of("removedFromQueue"), |came, left| (came - left).max(0.0))
        }
        found => found,
    };
    samples.number(&catalog::MONGODB_INGRESS_QUEUE, &[], queue);
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;

    fn read_of(limiter: impl Into<Bson>) -> SampleSet {
        let mut samples = SampleSet::default();
        read(
            &mut samples,
            &doc! {"network": {"numRequests": 7_i64, "ingressRequestRateLimiter": limiter.into()}},
        );
        samples
    }

    #[test]
    fn rate_limiter_of_server_8_2_is_decoded() {
        let samples = read_of(doc! {
            "addedToQueue": 5_i64, "removedFromQueue": 3_i64, "interruptedInQueue": 1_i64,
            "rejectedAdmissions": 12_i64, "exemptedAdmissions": 4_i64, "successfulAdmissions": 100_i64,
            "attemptedAdmissions": 112_i64, "averageTimeQueuedMicros": 0.0, "totalAvailableTokens": 9.5,
        });
        let name = catalog::MONGODB_INGRESS_REQUESTS.name;
        assert_eq!(
            ["admitted", "rejected", "exempted"].map(|result| samples.find(name, &[result])),
            [Some(100.0), Some(12.0), Some(4.0)]
        );
        assert_eq!(samples.find(catalog::MONGODB_INGRESS_QUEUE.name, &[]), Some(2.0));
        assert_eq!(samples.find(catalog::MONGODB_INGRESS_TOKENS.name, &[]), Some(9.5));
        assert_eq!(samples.dropped(), 0);
        let samples = read_of(doc! {"currentQueueDepth": 6_i64, "addedToQueue": 5_i64});
        assert_eq!(samples.find(catalog::MONGODB_INGRESS_QUEUE.name, &[]), Some(6.0));
    }

    #[test]
    fn rate_limiter_section_is_skipped_before_8_0() {
        let mut limiter = RateLimiterSupport::default();
        assert!(limiter.needs_section("network") && limiter.needs_section("locks"));
        for (version, asked) in [
            ("6.0.5", false),
            ("7.0.14", false),
            ("8.0.20", true),
            ("8.2.1", true),
            ("10.0.0", true),
            ("", true),
        ] {
            limiter.update(&doc! {"version": version});
            assert_eq!(
                (limiter.needs_section("network"), limiter.needs_section("locks")),
                (asked, true),
                "{version}"
            );
        }
    }

    #[test]
    fn server_without_rate_limiter_has_no_ingress_metrics() {
        let mut samples = SampleSet::default();
        read(&mut samples, &doc! {"network": {"numRequests": 7_i64}});
        assert_eq!((samples.as_slice().len(), samples.dropped()), (0, 0));
        let samples = read_of(doc! {"rejectedAdmissions": "many", "addedToQueue": 3});
        assert_eq!((samples.as_slice().len(), samples.dropped()), (0, 1));
    }
}
