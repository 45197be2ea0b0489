//! The alerts of `alerts/`: that the rules and their own tests hold, that each alert has a runbook and is tested both ways,
//! that whatever is queried is exported, and that the right people are told.

mod environments;
mod files;
mod inhibition;
mod matrix;
mod no_primary;
mod recovery;
mod routes;
mod rules;
mod runbooks;
