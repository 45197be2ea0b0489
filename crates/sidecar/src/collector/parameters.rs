//! The server's limit on the lifetime of transactions.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;

use super::{Collector, PollContext, Privilege, Schedule};
use crate::decode::number;
use crate::error::PollError;
use crate::sample_set::SampleSet;

const LIFETIME: &str = "transactionLifetimeLimitSeconds";

#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) interval: Duration,
}

#[async_trait]
impl Collector for Parameters {
    fn name(&self) -> &'static str {
        "parameters"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Interval(self.interval)
    }

    fn privileges(&self) -> Vec<Privilege> {
        vec![Privilege::on_cluster("getParameter")]
    }

    async fn poll(&mut self, context: PollContext<'_>) -> Result<Option<SampleSet>, PollError> {
        // A mongos does not have this parameter and leaves the limit to its shards.
        Ok(Some(decode(&context.run(doc! {"getParameter": 1, LIFETIME: 1}).await?)))
    }
}

pub(super) fn decode(reply: &Document) -> SampleSet {
    let mut samples = SampleSet::default();
    samples.number(&catalog::MONGODB_TRANSACTION_LIFETIME_LIMIT, &[], number(reply, &[LIFETIME]));
    samples
}
