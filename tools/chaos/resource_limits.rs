//! Limits of resource usage: memory, open files, connections.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use end_to_end::measure::resident;
use mongodb::bson::doc;
use testkit::wait;

use crate::backend::{APPLICATION, POOL};
use crate::daemon::Daemon;
use crate::environment::{Environment, number};

/// The allowed increase of a process's memory after the calm round: its pools fill, and its allocator keeps freed
/// memory.
const MEMORY: f64 = 48.0 * 1024.0 * 1024.0;
/// The driver's monitoring connections to each member, in addition to the pool.
const WATCHING: f64 = 2.0;
/// The sidecar polls on two connections, and runs checks on two connections of another client.
const SIDECAR: f64 = 4.0 + 2.0 * WATCHING;
/// The files that a process has open without callers: connections to members, the runtime's own files.
const FILES: f64 = 100.0;

/// The resource usage of all processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResourceUsage {
    ledger: ProcessUsage,
    sidecar: ProcessUsage,
}

#[derive(Debug, Clone, Copy)]
struct ProcessUsage {
    /// Resident memory in bytes.
    memory: f64,
    files: f64,
}

impl ResourceUsage {
    /// Waits until the connections of disconnected callers are closed, and reads.
    pub(crate) async fn read(env: &Environment) -> Result<Self> {
        wait::until("no more files to be open than are wanted", async || {
            let held = Self::now(env)?;
            for (name, of) in [("the ledger", held.ledger), ("the sidecar", held.sidecar)] {
                ensure!(of.files <= FILES, "{name} has {} open", of.files);
            }
            Ok(held)
        })
        .await
    }

    /// Reads the present usage.
    pub(crate) fn now(env: &Environment) -> Result<Self> {
        Ok(Self { ledger: of(&env.backend)?, sidecar: of(&env.sidecar)? })
    }

    /// Memory in MiB and open files, of the ledger and of the sidecar.
    pub(crate) fn figures(&self) -> [(f64, f64); 2] {
        [self.ledger, self.sidecar].map(|of| (of.memory / 1024.0 / 1024.0, of.files))
    }

    /// Usage above the limits, relative to the calm round.
    pub(crate) async fn excess(&self, first: &Self, env: &Environment) -> Result<Vec<String>> {
        let mut complaints = Vec::new();
        for (name, first, now) in
            [("the ledger", first.ledger, self.ledger), ("the sidecar", first.sidecar, self.sidecar)]
        {
            if now.memory > first.memory + MEMORY {
                complaints.push(format!("{name} holds {} MiB, and held {}", mib(now), mib(first)));
            }
        }
        for index in 0..env.each.len() {
            let connections = connections(env, index).await?;
            for (application, most) in [(APPLICATION, f64::from(POOL) + WATCHING), ("txnscope", SIDECAR)] {
                let now = connections.get(application).copied().unwrap_or(0.0);
                if now > most {
                    complaints
                        .push(format!("{application} has {now} connections to a member, more than {most}"));
                }
            }
        }
        Ok(complaints)
    }

    /// The line of an iteration.
    pub(crate) fn line(&self) -> String {
        format!("ledger {} MiB, sidecar {} MiB", mib(self.ledger), mib(self.sidecar))
    }
}

fn mib(of: ProcessUsage) -> f64 {
    (of.memory / 1024.0 / 1024.0).round()
}

fn of(daemon: &Daemon) -> Result<ProcessUsage> {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count() as f64;
    Ok(ProcessUsage { memory: resident(daemon.pid())? * 1e6, files })
}

/// Connections to a member, by application.
async fn connections(env: &Environment, index: usize) -> Result<BTreeMap<String, f64>> {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleConnections": true}},
        doc! {"$match": {"connectionId": {"$exists": true}, "appName": {"$exists": true}}},
        doc! {"$group": {"_id": "$appName", "connections": {"$addToSet": "$connectionId"}}},
        doc! {"$project": {"connections": {"$size": "$connections"}}},
    ];
    let mut cursor = env.each[index].database("admin").aggregate(pipeline).await?;
    let mut found = BTreeMap::new();
    while cursor.advance().await? {
        let one = cursor.deserialize_current()?;
        found.insert(one.get_str("_id")?.to_owned(), number(&one, "connections"));
    }
    Ok(found)
}
