//! Whether an operation got worse, judged on counts alone.
//!
//! Nothing here asks anybody anything: counts go in, verdicts come out, and the same counts give the same verdicts. The
//! questions are all of one form: of so many, so many were bad before, and so many of so many are now; is that more
//! than chance explains, and more than is worth a word?
//!
//! | file | what |
//! | --- | --- |
//! | `share` | a share before and after: Fisher's exact test, and how much traffic it takes |
//! | `spread` | how much more than chance the share varied before, when nothing was wrong |
//! | `latency` | quantiles from a histogram's buckets, as shares beyond a bound |
//! | `claims` | all questions of all operations, with one level of error for them together |

mod claims;
mod latency;
mod share;
mod spread;

pub(crate) use claims::{Claim, Judged, Limits, Measure, Operation, Stretch, claims, judge};
