//! What is going on now: open transactions, waiting operations, and who blocks whom.
//!
//! MongoDB knows all of it, in three places: `$currentOp` has the operations and the idle sessions, `lockInfo` has
//! the holders and the queue of each lock, and a backend's table has the operation that began a transaction. They
//! are joined here into one model, by pure functions, for every view.
//!
//! | module | contents |
//! | --- | --- |
//! | `model` | the model of one member |
//! | `pipeline`, `operation` | the aggregation of `$currentOp`, and its decoding |
//! | `locks` | decoding of `lockInfo` |
//! | `names` | the operations in the backends' tables |
//! | `tracker` | what only two polls show: idle time, and retries that go on |
//! | `transactions`, `blockers` | from decoded replies to the model |
//! | `rates`, `history` | rates of two polls, and the last fifteen minutes |
//! | `collector`, `store` | polling of one member, and the newest models |
//! | `monitor`, `report` | watching a deployment, and the report of all members |
//! | `recorder` | the last fifteen minutes of each member from the regular polls |
//! | `tree` | the tree of blockers |
//! | `ending`, `ending_decision` | ending one transaction, at the request of an operator |
//!
//! ```no_run
//! # async fn example() -> Result<(), txnscope_sidecar::StartError> {
//! use std::time::Duration;
//! use txnscope_sidecar::Target;
//! use txnscope_sidecar::live::{LiveMonitor, LiveSettings};
//!
//! let target = Target::new("mongodb://db1,db2,db3/?replicaSet=rs0");
//! let monitor = LiveMonitor::start(&target, &LiveSettings::default()).await?;
//! monitor.wait_for_members(Duration::from_secs(10)).await;
//! for waiting in monitor.report().waiting {
//!     println!("{} waits for {:?}", waiting.command, waiting.blocked_by);
//! }
//! # Ok(())
//! # }
//! ```

mod blockers;
mod collector;
mod conflicts;
#[cfg(any(test, feature = "fuzzing"))]
mod decode_all;
mod ending;
mod ending_decision;
mod history;
mod locks;
mod model;
mod monitor;
mod names;
mod operation;
mod pipeline;
mod rates;
mod recorder;
mod report;
mod store;
#[cfg(test)]
mod tests;
mod tracker;
mod transactions;
mod tree;

pub(crate) use self::collector::LiveCollector;
#[cfg(feature = "fuzzing")]
pub(crate) use self::decode_all::decode_all;
pub use self::ending::{EndError, EndOutcome, Ending, TransactionId, end_transaction, kill_privilege};
pub use self::history::{HISTORY, History, HistoryPoint};
pub use self::model::{
    ConnectionPool, HeldLock, KeyQueue, LiveModel, MissingPart, Part, Reference, RunningOperation,
    Transaction, TransactionState, WaitingOperation, WaitsFor,
};
pub use self::monitor::{LiveMonitor, LiveSettings, MemberVersion};
pub use self::rates::Rates;
pub(crate) use self::rates::{LIVE_SECTIONS, LastCounters};
pub(crate) use self::recorder::{HistoryColumns, HistoryRecorder};
pub use self::report::{LiveReport, MemberReport, MemberStatus};
pub(crate) use self::store::LiveStore;
pub use self::tree::{TreeRow, blocker_tree};
