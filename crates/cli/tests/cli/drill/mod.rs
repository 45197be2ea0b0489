//! `txnscope drill` as a process, on real ledgers and on backends that misbehave.

pub(crate) mod environment;
mod load;
mod mutants;
mod race;
mod refusals;
mod scenarios;
mod tls;
