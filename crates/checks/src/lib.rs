//! Checks on the data in MongoDB, and guarded repairs of derived fields.
//!
//! Metrics tell whether transactions behave; only the data tells whether the money is right. A check is a named rule
//! about the data, written in MongoDB's own query language, in a file that the backend's team keeps next to its code.
//!
//! | module | content |
//! | --- | --- |
//! | `file` | parsing `checks.toml` into checks, or into a list of all its errors |
//! | `check` | the definition of a check |
//! | `pipeline` | translating a check into the aggregation that finds its violations |
//! | `strict` | finding the values that MongoDB silently leaves out of a sum |
//! | `preconditions` | verifying that the collections and fields of a check exist |
//! | `run` | running a check on one snapshot of the data, within a time limit |
//! | `failure` | the reasons for which a check fails |
//! | [`repair`] | repairing derived fields with a record, and undoing repairs |
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
//!         CheckResult::Failed(failure) => println!("{}: unknown: {failure}", check.name),
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

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
