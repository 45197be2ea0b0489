//! Failpoints: real servers that fail on command.

use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

/// A `failCommand` failpoint that fires for one application name only, so that it hits neither the sidecar nor
/// the test's own commands.
#[derive(Debug)]
pub struct FailPoint {
    client: Client,
    /// How often it had fired before it was set.
    before: i64,
}

impl FailPoint {
    /// Fails the commands of that application until it is turned off. `data` is the failpoint's own
    /// (`failCommands`, `errorCode`, `closeConnection`, `blockConnection`, …).
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn fail_command(client: &Client, app_name: &str, data: Document) -> Result<Self> {
        Self::set(client, app_name, Bson::String("alwaysOn".into()), data).await
    }

    /// Fails so many commands of that application.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn fail_command_times(
        client: &Client,
        app_name: &str,
        times: i32,
        data: Document,
    ) -> Result<Self> {
        Self::set(client, app_name, Bson::Document(doc! {"times": times}), data).await
    }

    async fn set(client: &Client, app_name: &str, mode: Bson, mut data: Document) -> Result<Self> {
        data.insert("appName", app_name);
        let command = doc! {"configureFailPoint": "failCommand", "mode": mode, "data": data};
        let reply =
            client.database("admin").run_command(command).await.context("cannot set the failpoint")?;
        Ok(Self { client: client.clone(), before: times_fired(&reply) })
    }

    /// Turns it off. A failpoint that is only dropped stays: its server dies with the test.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn off(self) -> Result<()> {
        self.count().await.map(drop)
    }

    /// Turns it off, and says how often it has fired.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn count(self) -> Result<i64> {
        let command = doc! {"configureFailPoint": "failCommand", "mode": "off"};
        let reply = self.client.database("admin").run_command(command).await;
        Ok(times_fired(&reply.context("cannot turn the failpoint off")?) - self.before)
    }

    /// Waits until it has fired.
    ///
    /// # Errors
    ///
    /// If it has not in that time.
    pub async fn fired(&self, within: Duration) -> Result<()> {
        let milliseconds = i64::try_from(within.as_millis()).context("a time")?;
        let command = doc! {
            "waitForFailPoint": "failCommand", "timesEntered": self.before + 1, "maxTimeMS": milliseconds,
        };
        let waited = self.client.database("admin").run_command(command).await;
        waited.context("nothing ran into the failpoint").map(drop)
    }
}

/// Since its server was started, as each answer about it says.
fn times_fired(reply: &Document) -> i64 {
    let count = reply.get("count");
    count.and_then(|count| count.as_i64().or_else(|| count.as_i32().map(i64::from))).unwrap_or(0)
}
