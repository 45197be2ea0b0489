//! The server's own limit on transactions, as it is set now.

use std::time::Duration;

use async_trait::async_trait;
use mongodb::bson::{Document, doc};
use txnscope_catalog as catalog;

use super::{Ask, Collector, Privilege, Schedule};
use crate::decode::number;
use crate::error::PollError;
use crate::reading::Reading;

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

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        // A mongos leaves the limit to its shards, and says that it has no such option.
        Ok(Some(decode(&ask.run(doc! {"getParameter": 1, LIFETIME: 1}).await?)))
    }
}

pub(super) fn decode(reply: &Document) -> Reading {
    let mut reading = Reading::default();
    reading.number(&catalog::MONGODB_TRANSACTION_LIFETIME_LIMIT, &[], number(reply, &[LIFETIME]));
    reading
}
