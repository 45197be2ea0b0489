//! `network.ingressRequestRateLimiter`: requests that the server lets in, and those that it turns away because there are too
//! many. Servers from 8.2 and 8.0.20 on.

use mongodb::bson::Document;
use txnscope_catalog as catalog;

use crate::collector::fields::{self, Field, plain};
use crate::decode::{Found, number, text};
use crate::reading::Reading;

const fn result(label: &'static [&'static str], path: &'static [&'static str]) -> Field {
    plain(&catalog::MONGODB_INGRESS_REQUESTS, path).of(label)
}

const FIELDS: &[Field] = &[
    result(&["admitted"], &["network", "ingressRequestRateLimiter", "successfulAdmissions"]),
    result(&["rejected"], &["network", "ingressRequestRateLimiter", "rejectedAdmissions"]),
    result(&["exempted"], &["network", "ingressRequestRateLimiter", "exemptedAdmissions"]),
    plain(
        &catalog::MONGODB_INGRESS_TOKENS,
        &["network", "ingressRequestRateLimiter", "totalAvailableTokens"],
    ),
];

/// Whether this server can have a limiter. The section that it is a part of is a good part of the reply, and nothing else of
/// it is read.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    is_too_old: bool,
}

impl Limiter {
    pub(super) fn is_asked_for(&self, section: &str) -> bool {
        section != "network" || !self.is_too_old
    }

    /// At each reply, for the server may be another one after an upgrade. One that can have a limiter may be given one.
    pub(super) fn learn(&mut self, reply: &Document) {
        let version = text(reply, &["version"]).ok().unwrap_or_default();
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        self.is_too_old = major.is_some_and(|major| major < 8);
    }
}

pub(super) fn read(reading: &mut Reading, reply: &Document) {
    fields::read(reading, reply, FIELDS);
    let of = |field| number(reply, &["network", "ingressRequestRateLimiter", field]);
    // Not every version says how long the queue is, and each how many came and left.
    let queue = match of("currentQueueDepth") {
        Found::Missing => {
            of("addedToQueue").with(of("removedFromQueue"), |came, left| (came - left).max(0.0))
        }
        found => found,
    };
    reading.number(&catalog::MONGODB_INGRESS_QUEUE, &[], queue);
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, doc};

    use super::*;

    fn read_of(limiter: impl Into<Bson>) -> Reading {
        let mut reading = Reading::default();
        read(
            &mut reading,
            &doc! {"network": {"numRequests": 7_i64, "ingressRequestRateLimiter": limiter.into()}},
        );
        reading
    }

    #[test]
    fn ingress_limiter_of_a_server_8_2_is_read() {
        let reading = read_of(doc! {
            "addedToQueue": 5_i64, "removedFromQueue": 3_i64, "interruptedInQueue": 1_i64,
            "rejectedAdmissions": 12_i64, "exemptedAdmissions": 4_i64, "successfulAdmissions": 100_i64,
            "attemptedAdmissions": 112_i64, "averageTimeQueuedMicros": 0.0, "totalAvailableTokens": 9.5,
        });
        let name = catalog::MONGODB_INGRESS_REQUESTS.name;
        assert_eq!(
            ["admitted", "rejected", "exempted"].map(|result| reading.find(name, &[result])),
            [Some(100.0), Some(12.0), Some(4.0)]
        );
        assert_eq!(reading.find(catalog::MONGODB_INGRESS_QUEUE.name, &[]), Some(2.0));
        assert_eq!(reading.find(catalog::MONGODB_INGRESS_TOKENS.name, &[]), Some(9.5));
        assert_eq!(reading.dropped(), 0);
        let reading = read_of(doc! {"currentQueueDepth": 6_i64, "addedToQueue": 5_i64});
        assert_eq!(reading.find(catalog::MONGODB_INGRESS_QUEUE.name, &[]), Some(6.0));
    }

    #[test]
    fn server_before_8_0_is_not_asked_for_its_limiter_until_it_is_upgraded() {
        let mut limiter = Limiter::default();
        assert!(limiter.is_asked_for("network") && limiter.is_asked_for("locks"));
        for (version, asked) in [
            ("6.0.5", false),
            ("7.0.14", false),
            ("8.0.20", true),
            ("8.2.1", true),
            ("10.0.0", true),
            ("", true),
        ] {
            limiter.learn(&doc! {"version": version});
            assert_eq!(
                (limiter.is_asked_for("network"), limiter.is_asked_for("locks")),
                (asked, true),
                "{version}"
            );
        }
    }

    #[test]
    fn server_without_an_ingress_limiter_has_none_of_its_metrics() {
        let mut reading = Reading::default();
        read(&mut reading, &doc! {"network": {"numRequests": 7_i64}});
        assert_eq!((reading.samples().len(), reading.dropped()), (0, 0));
        let reading = read_of(doc! {"rejectedAdmissions": "many", "addedToQueue": 3});
        assert_eq!((reading.samples().len(), reading.dropped()), (0, 1));
    }
}
