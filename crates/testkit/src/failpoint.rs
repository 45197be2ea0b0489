//! Failpoints: real servers that fail on command.

use anyhow::{Context, Result};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

/// A `failCommand` failpoint that fires for one application name only, so that it hits neither the sidecar nor
/// the test's own commands.
#[derive(Debug)]
pub struct FailPoint {
    client: Client,
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
        client.database("admin").run_command(command).await.context("cannot set the failpoint")?;
        Ok(Self { client: client.clone() })
    }

    /// Turns it off. A failpoint that is only dropped stays: its server dies with the test.
    ///
    /// # Errors
    ///
    /// If the server refuses.
    pub async fn off(self) -> Result<()> {
        let command = doc! {"configureFailPoint": "failCommand", "mode": "off"};
        self.client.database("admin").run_command(command).await.context("cannot turn the failpoint off")?;
        Ok(())
    }
}
