//! The storage engine's statistics in `serverStatus`: write conflicts.
//!
//! They weigh 25 kB and cost the server more than all the rest, and no filter makes them smaller; so they have
//! their own, slower schedule. Both counters of conflicts come from one reply, for only then is the difference
//! between them exact.

use async_trait::async_trait;
use mongodb::bson::Document;
use txnscope_catalog as catalog;

use super::{Ask, Schedule, Source, metrics_but_for_operation, server_status_with};
use crate::decode::number;
use crate::error::PollError;
use crate::reading::Reading;

#[derive(Debug)]
pub(super) struct StorageEngine;

#[async_trait]
impl Source for StorageEngine {
    fn name(&self) -> &'static str {
        "storage_engine"
    }

    fn schedule(&self) -> Schedule {
        Schedule::Every(3)
    }

    async fn poll(&mut self, ask: Ask<'_>) -> Result<Option<Reading>, PollError> {
        let mut command = server_status_with(&["wiredTiger"]);
        command.insert("metrics", metrics_but_for_operation());
        Ok(Some(decode(&ask.run(command).await?)))
    }
}

fn decode(reply: &Document) -> Reading {
    let mut reading = Reading::default();
    let retried = number(reply, &["metrics", "operation", "writeConflicts"]);
    reading.number(&catalog::MONGODB_OPERATION_WRITE_CONFLICTS, &[], retried);
    let detected = number(reply, &["wiredTiger", "transaction", "update conflicts"]);
    reading.number(&catalog::MONGODB_WIREDTIGER_UPDATE_CONFLICTS, &[], detected);
    reading
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn a_server_without_the_engine_has_one_counter_less() {
        let operation = doc! {"operation": {"writeConflicts": 3_i64}};
        let both = doc! {"metrics": &operation, "wiredTiger": {"transaction": {"update conflicts": 5}}};
        assert_eq!(decode(&both).samples().len(), 2);
        assert_eq!(decode(&doc! {"metrics": operation}).samples().len(), 1);
    }
}
