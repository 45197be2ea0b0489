//! Statistics of a rollout: compares the failures, the latency and the write conflicts of operations before and after a
//! deployment.
//!
//! All functions are pure: counts go in, comparisons come out, and equal counts give equal comparisons. Each comparison
//! is a test of two proportions: is the rise larger than a limit, and statistically significant?
//!
//! | module | contents |
//! | --- | --- |
//! | `proportion` | a proportion before and after: Fisher's exact test, and its power |
//! | `overdispersion` | the variation of a proportion before the deployment beyond binomial noise |
//! | `latency` | quantiles from a histogram's buckets, as proportions beyond a bound |
//! | `comparison` | all comparisons of all operations, with one family-wise error rate |
//! | `alpha` | the error rate of interim analyses |
//! | `simulation` | simulated traffic, to measure how often the comparison errs |
//!
//! ```
//! use txnscope_rollout::{Limits, Operation, Outcome, WindowCounts, analyze, compare};
//!
//! let counts = |failed: f64| WindowCounts { ended: 2_000.0, failed, ..WindowCounts::default() };
//! let operation = Operation {
//!     name: "POST /payments/{id}/complete".to_owned(),
//!     slices: vec![counts(10.0); 12],
//!     after: counts(90.0),
//! };
//! let limits = Limits { failures: 0.01, latency: 1.5, conflicts: 0.2, alpha: 0.01 };
//! let mut comparisons = compare(&[0.1, 1.0], &[operation], &limits);
//! analyze(&mut comparisons, limits.alpha);
//! assert_eq!(comparisons[0].outcome, Outcome::Regressed);
//! ```

mod alpha;
mod comparison;
mod latency;
mod overdispersion;
mod proportion;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;

pub use crate::alpha::{alpha_spent, interim_analyses};
pub use crate::comparison::{
    Comparison, Limits, Measure, Operation, Outcome, WindowCounts, analyze, compare,
};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
