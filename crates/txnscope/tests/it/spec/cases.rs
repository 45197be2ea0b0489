//! Table-driven scenarios: a failpoint, and the expected result.

use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

use mongodb::bson::{Document, doc};
use txnscope::{Abort, Reason, TransactionError};

use super::spec_env::SpecEnv;
use crate::env::{NO, OPERATION};

/// Errors after which the driver sends a commit or an abort once more.
pub(super) const RETRYABLE_CODES: [(&str, i32); 11] = [
    ("NotWritablePrimary", 10107),
    ("NotPrimaryOrSecondary", 13436),
    ("NotPrimaryNoSecondaryOk", 13435),
    ("InterruptedDueToReplStateChange", 11602),
    ("InterruptedAtShutdown", 11600),
    ("PrimarySteppedDown", 189),
    ("ShutdownInProgress", 91),
    ("HostNotFound", 7),
    ("HostUnreachable", 6),
    ("SocketException", 9001),
    ("NetworkTimeout", 89),
];

/// A transaction of an `insert` and an `update`, which is committed or, if it is to be rejected, aborted.
pub(crate) struct Case {
    /// The name in MongoDB's file, or the failing command.
    pub(crate) name: String,
    /// How often the failpoint fires.
    pub(crate) times: i32,
    pub(crate) fails: Document,
    pub(crate) expected: Expected,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Expected {
    /// Committed in this attempt, after `commits` commit commands in it; the earlier attempts were aborted for this
    /// reason.
    Committed {
        attempts: u32,
        aborted_for: Reason,
        commits: usize,
    },
    Failed(Reason),
    /// The caller receives `CommitUnknown` with this reason after `commits` commit commands; `resolved_later` if a
    /// cleanup sends another one.
    Unknown {
        reason: Reason,
        commits: usize,
        resolved_later: bool,
    },
    /// Rejected by the callback, after `aborts` abort commands.
    Rejected {
        aborts: usize,
    },
}

/// The transaction is retried once.
pub(crate) const fn again(aborted_for: Reason) -> Expected {
    Expected::Committed { attempts: 2, aborted_for, commits: 1 }
}

/// The commit is sent this many times.
pub(crate) const fn commits(commits: usize) -> Expected {
    Expected::Committed { attempts: 1, aborted_for: Reason::OTHER, commits }
}

pub(crate) async fn check(spec: &mut SpecEnv, cases: &[Case]) {
    for case in cases {
        spec.reset().await;
        case.check(spec).await;
    }
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, times: i32, fails: Document, expected: Expected) -> Self {
        Self { name: name.into(), times, fails, expected }
    }

    async fn check(&self, spec: &SpecEnv) {
        let (name, env) = (&self.name, &spec.env);
        env.fail_times(self.times, self.fails.clone()).await;
        let items = env.items();
        let reject = matches!(self.expected, Expected::Rejected { .. });
        let attempt = AtomicI32::new(0);
        let ended = env.runner.run_as(OPERATION, async |mut tx| {
            // Each attempt writes its own document: the previous one is aborted in the background, and may still hold
            // its locks.
            let id = attempt.fetch_add(1, Relaxed) + 1;
            items.insert_one(doc! {"_id": id}).session(&mut tx).await?;
            items.update_one(doc! {"_id": id}, doc! {"$set": {"paid": true}}).session(&mut tx).await?;
            if reject { Err(NO.into()) } else { Ok::<_, Abort<Reason>>(()) }
        });
        let ended = ended.await;
        // Before any background cleanup.
        let driver = env.driver();
        let commits_sent = spec.sent("commitTransaction").len();
        if self.is_simulated() {
            spec.end_simulated_aborts().await;
        }
        let server = env.reconciled().await;
        let ids = spec.committed().await;
        match (self.expected, ended) {
            (Expected::Committed { attempts, aborted_for, commits }, Ok(committed)) => {
                assert_eq!(committed.attempts, attempts, "{name}");
                let aborted = f64::from(attempts - 1);
                // An attempt that lost its connection counts as open until its cleanup has ended.
                let [started, committed, already_aborted, unknown, open] = driver;
                let counted = [started, committed, already_aborted + open, unknown];
                assert_eq!(counted, [f64::from(attempts), 1.0, aborted, 0.0], "{name}");
                assert_eq!(env.aborted_for(aborted_for.as_str()), aborted, "{name}");
                // The commits that the server rejected come before.
                let refused = if self.fails_on("commitTransaction") { attempts as usize - 1 } else { 0 };
                assert_eq!(commits_sent, refused + commits, "{name}");
                assert_eq!((server.committed, ids), (1, vec![attempt.into_inner()]), "{name}");
                let resolved = [f64::from(attempts), 1.0, aborted, 0.0, 0.0];
                assert_eq!(env.driver(), resolved, "{name}: nothing is left to be resolved");
            }
            (Expected::Failed(reason), Err(TransactionError::Failed(failure))) => {
                assert_eq!((failure.reason(), failure.attempts()), (reason, 1), "{name}");
                assert!(failure.driver_error().is_some(), "{name}");
                let [started, _, aborted, unknown, _] = env.driver();
                assert_eq!([started, aborted, unknown], [1.0, 1.0, 0.0], "{name}");
                assert_eq!(env.aborted_for(reason.as_str()), 1.0, "{name}");
                assert_eq!((server.committed, ids), (0, Vec::new()), "{name}");
            }
            (
                Expected::Unknown { reason, commits, resolved_later },
                Err(TransactionError::CommitUnknown(failure)),
            ) => {
                assert_eq!((failure.reason(), failure.attempts()), (reason, 1), "{name}");
                assert_eq!(driver, [1.0, 0.0, 0.0, 1.0, 0.0], "{name}");
                assert_eq!(commits_sent, commits, "{name}");
                let after = spec.sent("commitTransaction").len();
                assert_eq!(
                    after,
                    commits + usize::from(resolved_later),
                    "{name}: resolved in the background"
                );
                assert_eq!(env.cleanups("committed"), f64::from(u8::from(resolved_later)), "{name}");
                assert_eq!((server.committed, ids), (1, vec![1]), "{name}");
            }
            (Expected::Rejected { aborts }, Err(TransactionError::Rejected { error: NO, reason: NO })) => {
                assert_eq!(spec.sent("abortTransaction").len(), aborts, "{name}");
                assert_eq!(env.driver(), [1.0, 0.0, 1.0, 0.0, 0.0], "{name}");
                assert_eq!(env.aborted_for(NO.as_str()), 1.0, "{name}");
                assert_eq!((server.started, server.aborted, ids), (1, 1, Vec::new()), "{name}");
            }
            (expected, ended) => panic!("{name}: expected {expected:?}, not {ended:?}"),
        }
    }

    fn fails_on(&self, command: &str) -> bool {
        self.fails.get_array("failCommands").unwrap().iter().any(|name| name.as_str() == Some(command))
    }

    /// Whether the failpoint only claims that the server has ended the transaction.
    fn is_simulated(&self) -> bool {
        match self.expected {
            Expected::Committed { attempts, .. } => attempts > 1 && self.fails_on("commitTransaction"),
            Expected::Rejected { .. } => self.fails.contains_key("errorCode"),
            Expected::Failed(_) | Expected::Unknown { .. } => false,
        }
    }
}

/// A failpoint on a command with a code, labeled by the server.
pub(crate) fn code(command: &str, code: i32) -> Document {
    doc! {"failCommands": [command], "errorCode": code}
}

/// A failpoint with a label that the server would set itself.
pub(crate) fn retryable(command: &str, code: i32) -> Document {
    doc! {"failCommands": [command], "errorCode": code, "errorLabels": ["RetryableWriteError"]}
}

pub(crate) fn closed(command: &str) -> Document {
    doc! {"failCommands": [command], "closeConnection": true}
}

/// The command takes effect, and its reply carries a write concern error.
pub(crate) fn concern(command: &str, code: i32) -> Document {
    doc! {"failCommands": [command], "writeConcernError": {"code": code, "errmsg": "as asked"}}
}

pub(crate) fn retryable_concern(command: &str, code: i32) -> Document {
    let mut fails = concern(command, code);
    fails.insert("errorLabels", vec!["RetryableWriteError"]);
    fails
}
