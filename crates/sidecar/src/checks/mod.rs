//! The checks on the data, on a schedule.
//!
//! One task for each deployment runs them one after the other, so that a deployment has never more than one to bear.
//! It reads through a client of the whole deployment and not of a member: which member answers is the business of each
//! check's read preference. A check that fails costs its own violations, which vanish after three intervals, and
//! nothing else.
//!
//! | module | what |
//! | --- | --- |
//! | `books` | what the checks have found |
//! | `schedule` | when each runs |
//! | `page` | what of it is shown |

mod export;
mod results;
mod runner;

pub(crate) use export::{DeploymentCheckResults, export_checks};
pub(crate) use runner::CheckRunner;
