//! One reply through the decoders of all collectors, for property tests and fuzzing.

use std::time::Duration;

use mongodb::bson::Document;
use txnscope_catalog::MAX_APPLICATIONS;

use super::label_limiter::CardinalityLimiter;
use super::{current_op, parameters, profile, replication, server_status, slow_transactions, storage_engine};
use crate::sample_set::SampleSet;

/// Decodes a reply with every collector.
pub(crate) fn decode_all(reply: &Document) -> Vec<SampleSet> {
    vec![
        server_status::decode(reply),
        storage_engine::decode(reply),
        replication::decode(reply, reply),
        parameters::decode(reply),
        current_op::decode(reply, Duration::from_secs(1), &mut CardinalityLimiter::new(MAX_APPLICATIONS)),
        profile::decode(reply),
        slow_transactions::decode(reply),
    ]
}
