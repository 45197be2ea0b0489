//! Server errors: every error code that has a reason, at every place where it can occur.

use std::time::Duration;

use anyhow::{Context, Result};
use mongodb::bson::{Document, doc};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::json;
use testkit::FailPoint;
use tokio::time::Instant;
use txnscope_catalog as catalog;

use super::{FaultRun, wait_for_operations};
use crate::backend::APPLICATION;
use crate::environment::Environment;

/// Every code that `Reason::from_error` maps to a reason of its own, and two others.
const CODES: &[i32] = &[
    2,
    6,
    7,
    9,
    13,
    14,
    18,
    20,
    24,
    46,
    50,
    59,
    64,
    72,
    79,
    89,
    91,
    100,
    112,
    121,
    133,
    134,
    189,
    225,
    239,
    246,
    251,
    257,
    262,
    263,
    267,
    290,
    388,
    OVERLOADED,
    8000,
    9001,
    10058,
    10107,
    11000,
    11001,
    11600,
    11601,
    11602,
    12582,
    13435,
    13436,
    OUT_OF_DISK_SPACE,
];

const OUT_OF_DISK_SPACE: i32 = 14031;

/// `IngressRequestRateLimitExceeded`.
const OVERLOADED: i32 = 462;

const STATEMENTS: &[&str] = &["find", "findAndModify", "update", "insert", "aggregate"];

/// The command that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Statement,
    Commit,
    /// The commit is applied, but its write concern fails.
    Concern,
    Abort,
}

/// The labels of the error.
#[derive(Debug, Clone, Copy)]
enum Labels {
    Own,
    Transient,
    None,
}

#[derive(Debug, Clone, Copy)]
struct Injection {
    code: i32,
    place: Place,
    labels: Labels,
}

impl Injection {
    fn every() -> Vec<Self> {
        let mut every = Vec::new();
        for code in CODES.iter().copied() {
            for place in [Place::Statement, Place::Commit, Place::Concern, Place::Abort] {
                for labels in [Labels::Own, Labels::Transient, Labels::None] {
                    // A write concern error follows the commit, so it never has the label of a transient error.
                    if place != Place::Concern || matches!(labels, Labels::Own) {
                        every.push(Self { code, place, labels });
                    }
                }
            }
        }
        every
    }

    fn data(self) -> Document {
        let commands = match self.place {
            Place::Statement => STATEMENTS.to_vec(),
            Place::Commit | Place::Concern => vec!["commitTransaction"],
            Place::Abort => vec!["abortTransaction"],
        };
        let mut data = doc! {"failCommands": commands};
        if self.place == Place::Concern {
            data.insert("writeConcernError", doc! {"code": self.code, "errmsg": "on purpose"});
        } else {
            data.insert("errorCode", self.code);
        }
        match self.labels {
            Labels::Own => {}
            Labels::Transient => {
                data.insert("errorLabels", vec!["TransientTransactionError"]);
            }
            Labels::None => {
                data.insert("errorLabels", Vec::<String>::new());
            }
        }
        data
    }
}

pub(super) async fn all(env: &mut Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let mut every = Injection::every();
    every.shuffle(rng);
    inject(env, &every).await
}

pub(super) async fn some(env: &mut Environment, rng: &mut StdRng) -> Result<FaultRun> {
    let some: Vec<_> = Injection::every().choose_multiple(rng, 8).copied().collect();
    inject(env, &some).await
}

/// Injects the errors one after the other: each hits one command, of the load or of a separate request.
async fn inject(env: &mut Environment, injections: &[Injection]) -> Result<FaultRun> {
    let broken = Instant::now();
    let client = env.client();
    let retainer = client.retainer(1_000_000).await.context("a retainer of our own")?;
    env.record_response("POST /api/retainers", "201", 1);
    let path = format!("/api/retainers/{retainer}/consume");
    let mut injected = 0;
    for injection in injections {
        let admin = env.each[env.primary().await?].clone();
        let failing = FailPoint::fail_command_times(&admin, APPLICATION, 1, injection.data()).await?;
        // More than the balance, so that the transaction aborts.
        let amount = if injection.place == Place::Abort { 9_000_000 } else { 1 };
        let body = json!({"amount": amount, "description": "chaos"});
        let answer = match client.post(&path, &body).await {
            Ok((status, _)) => status.as_str().to_owned(),
            Err(_) => "unanswered".to_owned(),
        };
        env.record_response("POST /api/retainers/{id}/consume", answer, 1);
        failing.fired(Duration::from_secs(10)).await.with_context(|| format!("{injection:?}"))?;
        injected += u64::try_from(failing.count().await?)?;
    }
    let remark = format!("; {} errors injected", injections.len());
    Ok(FaultRun { injected, remark, ..FaultRun::since(broken) })
}

pub(super) async fn disk_full(env: &Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    let commands = ["findAndModify", "update", "insert", "commitTransaction"];
    let data = doc! {"failCommands": commands.to_vec(), "errorCode": OUT_OF_DISK_SPACE};
    let admin = env.each[env.primary().await?].clone();
    let failing = FailPoint::fail_command(&admin, APPLICATION, data).await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "failed", 20.0).await?;
    let injected = u64::try_from(failing.count().await?)?;
    let remark = format!("; {injected} errors injected");
    Ok(FaultRun { injected, remark, ..FaultRun::since(broken) })
}

/// Rejects everything, as an overloaded server of version 8.2. The driver retries each command by itself.
pub(super) async fn overload(env: &Environment) -> Result<FaultRun> {
    let broken = Instant::now();
    let repeats = async || {
        let page = env.ledger_page().await?;
        anyhow::Ok(page.sum(catalog::CLIENT_OVERLOAD_RETRIES.name, &[]))
    };
    let before = repeats().await?;
    let mut commands = STATEMENTS.to_vec();
    commands.extend(["commitTransaction", "abortTransaction"]);
    let labels = vec!["SystemOverloadedError", "RetryableError"];
    let data = doc! {"failCommands": commands, "errorCode": OVERLOADED, "errorLabels": labels};
    let admin = env.each[env.primary().await?].clone();
    let failing = FailPoint::fail_command(&admin, APPLICATION, data).await?;
    wait_for_operations(env, &catalog::TRANSACTION_DURATION, "failed", 20.0).await?;
    let injected = u64::try_from(failing.count().await?)?;
    let repeated = repeats().await? - before;
    anyhow::ensure!(repeated > 0.0, "of {injected} refusals the listener has seen no repeat");
    let remark = format!("; {injected} refusals, {repeated} repeats by the driver");
    Ok(FaultRun { injected, remark, ..FaultRun::since(broken) })
}

#[cfg(test)]
mod tests {
    use mongodb::error::{Error, ErrorKind};
    use txnscope::Reason;

    use super::{CODES, Injection};

    /// Injected codes without a reason of their own.
    const OTHERS: [i32; 2] = [8000, super::OUT_OF_DISK_SPACE];

    /// Codes of server errors that cannot occur here, because only the code distinguishes replies.
    fn reason(code: i32) -> Reason {
        let reply = mongodb::bson::doc! {"code": code};
        Reason::from_error(&Error::from(ErrorKind::Command(
            mongodb::bson::deserialize_from_document(reply).unwrap(),
        )))
    }

    #[test]
    fn all_error_codes_with_reason_are_injected() {
        let classified = (1..=100_000).filter(|code| reason(*code) != Reason::OTHER);
        let mut wanted: Vec<_> = classified.chain(OTHERS).collect();
        wanted.sort_unstable();
        assert_eq!(CODES, wanted);
    }

    #[test]
    fn documentation_states_number_of_codes() {
        let page = std::fs::read_to_string(testkit::workspace().join("docs/reliability.md")).unwrap();
        let (codes, errors) = (CODES.len(), Injection::every().len());
        for words in [format!("each of {codes} error codes"), format!("{errors} errors")] {
            assert!(page.contains(&words), "docs/reliability.md does not say: {words}");
        }
    }
}
