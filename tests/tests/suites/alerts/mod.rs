//! The alerts in `alerts/`: the rules and their tests pass, each alert has a runbook and tests for both states,
//! queries use existing metrics only, and notifications are routed correctly.

mod environments;
mod files;
mod inhibition;
mod matrix;
mod no_primary;
mod recovery;
mod routes;
mod rules;
mod runbooks;
