//! Checks on the data in MongoDB, and guarded repairs of what can be recomputed.
//!
//! Metrics say that transactions behave; only the data says that the money is right. A check is a name and something
//! that must hold, written in MongoDB's own query language, in a file that the backend's team keeps beside its code.
//!
//! | module | what |
//! | --- | --- |
//! | `file` | `checks.toml`: from text to checks, or to all that is wrong with it |
//! | `check` | what a check is |
//! | `pipeline` | from a check to the aggregation that finds its violations |
//! | `strict` | what MongoDB leaves out of a sum without a word, found |
//! | `presence` | whether what a check reads is there at all |
//! | `run` | one run: at one moment of the data, within its time |
//! | `failure` | why a check could not say |
//! | [`repair`] | setting derived fields right, on the record, and undoing it |
//!
//! ```no_run
//! # async fn example(client: &mongodb::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use txnscope_checks::{CheckResult, Checks, SampleOptions, run};
//!
//! let checks = Checks::parse(&std::fs::read_to_string("checks.toml")?)?;
//! for check in checks.iter() {
//!     match run(client, check, SampleOptions { limit: 20, full_documents: false }).await.result {
//!         CheckResult::Clean { documents } => println!("{}: clean, {documents} documents", check.name),
//!         CheckResult::Violated { count, sample, .. } => println!("{}: {count}: {sample:?}", check.name),
//!         CheckResult::Failed(failure) => println!("{}: not known: {failure}", check.name),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod check;
mod extended_json;
mod failure;
mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod pipeline;
mod preconditions;
pub mod repair;
mod run;
mod strict;

pub use crate::check::{Balance, Check, Derived, NumberType, Rule, Severity, Side};
pub use crate::extended_json::extended_json;
pub use crate::failure::{Failure, Reason};
pub use crate::file::{Checks, Diagnostic, FileError};
pub use crate::run::{CheckResult, Report, SampleOptions, run};
