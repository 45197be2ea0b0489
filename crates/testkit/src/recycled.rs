//! Replica sets that a test leaves to the next one of its program.
//!
//! A test has a recycled set to itself, like a new one: no other test reads or moves its counters meanwhile. What is saved
//! is the start, which costs a server more processor time than most tests. Counters go on from the last test, so that a
//! test compares them with those at its own start.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};

use crate::replica_set::ReplicaSet;

/// Sets that no test uses.
static IDLE: Mutex<Vec<Known>> = Mutex::new(Vec::new());

/// The inputs of the shells that wait for the end of this process.
static SHELLS: Mutex<Vec<ChildStdin>> = Mutex::new(Vec::new());

/// How long the reset of a set may take. Starting a new one takes less than this, and is always right.
const RESET: Duration = Duration::from_secs(5);

/// The parameters of a server, its failpoints among them.
type Parameters = BTreeMap<String, Bson>;

/// A set, and what it was like when it had just started.
#[derive(Debug)]
struct Known {
    set: ReplicaSet,
    parameters: Parameters,
}

fn idle() -> MutexGuard<'static, Vec<Known>> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replica set of one member that goes to the next test when this is dropped, unless it was started for one test.
#[derive(Debug)]
pub struct RecycledSet {
    set: Option<ReplicaSet>,
    /// The parameters of a new server, if the set goes to another test.
    parameters: Option<Parameters>,
}

impl From<ReplicaSet> for RecycledSet {
    /// A set that ends with its test.
    fn from(set: ReplicaSet) -> Self {
        Self { set: Some(set), parameters: None }
    }
}

impl Deref for RecycledSet {
    type Target = ReplicaSet;

    fn deref(&self) -> &ReplicaSet {
        match &self.set {
            Some(set) => set,
            None => unreachable!("the set is only taken out when this is dropped"),
        }
    }
}

impl Drop for RecycledSet {
    fn drop(&mut self) {
        if let (Some(set), Some(parameters)) = (self.set.take(), self.parameters.take()) {
            idle().push(Known { set, parameters });
        }
    }
}

impl ReplicaSet {
    /// A set of one member without data, users, failpoints, open transactions and changed parameters: one of an earlier
    /// test of this program, or a new one. For tests that neither kill the member nor compare its counters or its clients with
    /// fixed numbers.
    ///
    /// # Errors
    ///
    /// If none starts.
    pub async fn recycled() -> Result<RecycledSet> {
        loop {
            let Some(known) = idle().pop() else { break };
            // A set that a test has changed for good ends here, as does one that is still busy: turning a failpoint off
            // waits for the statements that it holds.
            if matches!(tokio::time::timeout(RESET, known.reset()).await, Ok(Ok(()))) {
                let Known { set, parameters } = known;
                return Ok(RecycledSet { set: Some(set), parameters: Some(parameters) });
            }
        }
        let set = ReplicaSet::start(1).await?;
        remove_after_exit(set.members()[0].folder())?;
        let parameters = parameters(&set.members()[0].client().await?).await?;
        Ok(RecycledSet { set: Some(set), parameters: Some(parameters) })
    }
}

impl Known {
    /// Makes the set like a new one.
    async fn reset(&self) -> Result<()> {
        let member = &self.set.members()[0];
        let client = member.client().await?;
        let admin = client.database("admin");
        let now = parameters(&client).await?;
        for name in now.iter().filter(|(_, value)| is_armed(value)).map(|(name, _)| name) {
            let name = name.trim_start_matches("failpoint.");
            admin.run_command(doc! {"configureFailPoint": name, "mode": "off"}).await?;
        }
        for (name, value) in now.iter().filter(|(name, _)| !name.starts_with("failpoint.")) {
            ensure!(self.parameters.get(name) == Some(value), "the parameter {name} has changed");
        }
        let config = admin.run_command(doc! {"replSetGetConfig": 1}).await?;
        let version = config.get_document("config")?.get_i32("version")?;
        ensure!(version == 1, "the set was reconfigured");
        admin.run_command(doc! {"killAllSessions": []}).await?;
        for name in client.list_database_names().await? {
            let database = client.database(&name);
            database.run_command(doc! {"profile": 0, "slowms": 100, "sampleRate": 1.0}).await?;
            database.run_command(doc! {"dropAllUsersFromDatabase": 1}).await?;
            database.run_command(doc! {"dropAllRolesFromDatabase": 1}).await?;
            if !["admin", "config", "local"].contains(&name.as_str()) {
                database.drop().await?;
            }
        }
        // Clients of the last test may take a moment to notice that their runtime is gone.
        crate::wait::until("a server that does nothing", async || {
            let status = admin.run_command(doc! {"serverStatus": 1}).await?;
            let open = status.get_document("transactions")?.get_i64("currentOpen")?;
            ensure!(open == 0, "{open} transactions are open");
            Ok(())
        })
        .await
    }
}

async fn parameters(client: &Client) -> Result<Parameters> {
    let reply: Document = client.database("admin").run_command(doc! {"getParameter": "*"}).await?;
    Ok(reply
        .into_iter()
        .filter(|(name, _)| !["ok", "$clusterTime", "operationTime"].contains(&name.as_str()))
        .collect())
}

/// Whether this is the value of a failpoint that is not off.
fn is_armed(value: &Bson) -> bool {
    let mode = value.as_document().and_then(|value| value.get("mode"));
    mode.is_some_and(|mode| !matches!(mode, Bson::Int32(0)))
}

/// Has a folder removed when this process has ended: the sets of [`IDLE`] are never dropped, since a static is not. The
/// shell waits for the end of its input, which is the end of this process, however it ends.
fn remove_after_exit(folder: &Path) -> Result<()> {
    const SCRIPT: &str =
        r#"read -r _; for _ in 1 2 3 4 5 6 7 8 9; do rm -rf -- "$0" 2>/dev/null && exit; sleep 1; done"#;
    let mut shell = Command::new("sh");
    // Ctrl-C at the terminal is not for it.
    shell.process_group(0);
    shell.args(["-c", SCRIPT]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = shell.spawn().context("cannot start sh")?;
    SHELLS.lock().unwrap_or_else(PoisonError::into_inner).extend(child.stdin.take());
    Ok(())
}
