//! Failpoints, which make real servers fail on command.

use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

/// A `failCommand` failpoint for a single application name, so that it affects neither the sidecar nor the test's own
/// commands.
#[derive(Debug)]
pub struct FailPoint {
    client: Client,
    /// How often the failpoint had fired before it was set.
    before: i64,
}

impl FailPoint {
    /// Fails the commands of an application until the failpoint is turned off. `data` is that of `failCommand`
    /// (`failCommands`, `errorCode`, `closeConnection`, `blockConnection`, …).
    ///
    /// # Errors
    ///
    /// If the server rejects the failpoint.
    pub async fn fail_command(client: &Client, app_name: &str, data: Document) -> Result<Self> {
        Self::set(client, app_name, Bson::String("alwaysOn".into()), data).await
    }

    /// Fails the next `times` commands of an application.
    ///
    /// # Errors
    ///
    /// If the server rejects the failpoint.
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

    /// Turns the failpoint off. Dropping it does not: it ends with the server of the test.
    ///
    /// # Errors
    ///
    /// If the server rejects the command.
    pub async fn off(self) -> Result<()> {
        self.count().await.map(drop)
    }

    /// Turns the failpoint off, and returns how often it has fired.
    ///
    /// # Errors
    ///
    /// If the server rejects the command.
    pub async fn count(self) -> Result<i64> {
        let command = doc! {"configureFailPoint": "failCommand", "mode": "off"};
        let reply = self.client.database("admin").run_command(command).await;
        Ok(times_fired(&reply.context("cannot turn the failpoint off")?) - self.before)
    }

    /// Waits until the failpoint has fired.
    ///
    /// # Errors
    ///
    /// If it has not fired within that time.
    pub async fn fired(&self, within: Duration) -> Result<()> {
        let milliseconds = i64::try_from(within.as_millis()).context("a time")?;
        let command = doc! {
            "waitForFailPoint": "failCommand", "timesEntered": self.before + 1, "maxTimeMS": milliseconds,
        };
        let waited = self.client.database("admin").run_command(command).await;
        waited.context("no command ran into the failpoint").map(drop)
    }
}

/// The count since the start of the server, from a reply about the failpoint.
fn times_fired(reply: &Document) -> i64 {
    let count = reply.get("count");
    count.and_then(|count| count.as_i64().or_else(|| count.as_i32().map(i64::from))).unwrap_or(0)
}
