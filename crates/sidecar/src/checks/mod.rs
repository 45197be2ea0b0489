//! Scheduled checks on the data.
//!
//! One task for each deployment runs its checks one after another, so that a deployment never has more than one
//! running. The client is one of the whole deployment: the read preference of each check selects the member. If
//! a check fails, only its own violations disappear, after three intervals.
//!
//! | module | contents |
//! | --- | --- |
//! | `results` | results of the checks |
//! | `runner` | schedule of the checks |
//! | `export` | export of the results |
//! | `status` | the results for the live page |

mod export;
mod results;
mod runner;
mod status;

pub(crate) use export::{DeploymentCheckResults, export_checks};
pub(crate) use runner::CheckRunner;
pub(crate) use status::{CheckStatus, statuses};
