//! Transactions on the `mongodb` driver, with metrics for every attempt.
//!
//! The driver's own `and_run` hides its attempts, backs off between attempts but not between commits, and leaves a
//! transaction open on the server if its future is dropped at the wrong moment. [`TransactionRunner`] implements the
//! retry loop itself:
//!
//! ```no_run
//! use mongodb::bson::doc;
//! use txnscope::{Abort, Reason, TransactionRunner};
//!
//! const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
//!
//! # async fn consume(client: &mongodb::Client, id: i32, amount: i64) -> Result<(), txnscope::TransactionError<Reason>> {
//! let runner = TransactionRunner::new(client);
//! let retainers = client.database("shop").collection::<mongodb::bson::Document>("retainers");
//! let committed = runner
//!     .run(async |mut tx| {
//!         let enough = doc! {"_id": id, "balance": {"$gte": amount}};
//!         let taken = retainers.update_one(enough, doc! {"$inc": {"balance": -amount}}).session(&mut tx).await?;
//!         if taken.matched_count == 0 {
//!             return Err(INSUFFICIENT_BALANCE.into()); // aborts, and counts as rejected
//!         }
//!         Ok(())
//!     })
//!     .await?;
//! println!("committed after {} attempts", committed.attempts);
//! # Ok(())
//! # }
//! ```
//!
//! Two things the runner cannot detect. A statement without `.session(&mut tx)` is not part of the transaction: it
//! takes effect at once. An application error that wraps a driver error, as every repository has one, must return the
//! driver error from [`ApplicationError::driver_error`], or a write conflict is not retried.
//!
//! Inside a request that the [layer](crate::TransactionLayer) counts, the transaction belongs to the request's
//! operation; give a job a name with [`run_as`](TransactionRunner::run_as).
//!
//! # What is retried
//!
//! As in MongoDB's specification of the convenient API: the whole transaction on `TransientTransactionError`; the
//! commit on `UnknownTransactionCommitResult`, unless the server's time limit for the commit was exceeded; for 120 s,
//! or until the caller's deadline; with randomized exponential backoff, also between commits.
//!
//! # What is counted
//!
//! An attempt starts with its first statement: without a statement there is no transaction, neither at the driver nor
//! on the server. An attempt ends as committed, as aborted for a reason, or as unknown. For each operation and at any
//! time:
//!
//! - started = committed + aborted + unknown + open, and
//! - transactions started on the server = started − not started (`not_sent`, `refused`) + `fenced` cleanups, each of
//!   which is one short transaction of its own. First statements that were `lost` widen this to an interval: most
//!   error codes of a first statement occur both before and after the server has started the transaction.

mod attempt;
mod attempt_failure;
mod attempt_recorder;
mod backoff;
mod builder;
mod cleanup;
mod connection_pools;
mod driver_error;
mod error;
mod first_statement;
mod key;
mod keyed_queue;
pub mod listener;
mod log;
mod metrics;
mod nesting;
mod open_transactions;
mod retry_loop;
#[cfg(feature = "axum")]
mod route;
mod runner;
mod session_debug;

pub use self::attempt::Transaction;
pub use self::builder::TransactionBuilder;
pub use self::connection_pools::{ConnectionPool, ConnectionPoolListener};
pub use self::error::{
    Abort, ApplicationError, Cause, Committed, Failure, TransactionError, find_driver_error,
};
pub use self::keyed_queue::KeyQueue;
pub use self::listener::TransactionListener;
pub(crate) use self::metrics::TransactionMetrics;
pub use self::nesting::Deadlock;
pub use self::open_transactions::{OpenTransaction, OpenTransactions};
pub use self::runner::TransactionRunner;
