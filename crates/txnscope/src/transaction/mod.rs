//! Transactions on the `mongodb` driver, run so that every attempt is known.
//!
//! The driver's own `and_run` hides its attempts, waits between them and not between commits, and leaves a transaction
//! open on the server if its future is dropped at the wrong moment. [`TransactionRunner`] owns the loop:
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
//! Two things the runner cannot see by itself. A statement without `.session(&mut tx)` is none of the transaction: it takes
//! effect at once. And an error of your own around the driver's, as every repository has one, tells it where the driver's
//! is with [`ApplicationError::driver_error`], or a write conflict is not tried again.
//!
//! Inside a request that the [layer](crate::TransactionLayer) counts, the transaction belongs to its operation; a job
//! is given a name with [`run_as`](TransactionRunner::run_as).
//!
//! # What is retried
//!
//! As MongoDB's specification of the convenient API has it: the whole transaction on `TransientTransactionError`; the
//! commit on `UnknownTransactionCommitResult`, but not when the server's own time for it was over; for 120 s, or until
//! the caller's deadline; with growing pauses at random, also between commits.
//!
//! # What is counted
//!
//! An attempt begins with its first statement: without one there is no transaction, on either side. It commits, is
//! aborted for a reason, or nobody knows. So, for each operation and at any time,
//!
//! - started = committed + aborted + unknown + open, and
//! - what the server started = started − unbegun, but for first statements that were `lost`, and + the cleanups that
//!   were `fenced`, each of which is one short transaction of its own. What is not certain (most codes of a first statement
//!   come from before and from after the server has begun) is `lost`, and widens these bounds.

mod attempt;
mod attempt_failure;
mod attempt_recorder;
mod backoff;
mod builder;
mod cleanup;
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
pub use self::error::{
    Abort, ApplicationError, Cause, Committed, Failure, TransactionError, find_driver_error,
};
pub use self::listener::TransactionListener;
pub(crate) use self::metrics::TransactionMetrics;
pub use self::nesting::Deadlock;
pub use self::open_transactions::{OpenTransaction, OpenTransactions};
pub use self::runner::TransactionRunner;
