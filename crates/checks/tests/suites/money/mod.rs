//! Money is never guessed: which repairs are rejected, what is written, and what an audit does not report as clean.

mod balances;
pub(crate) mod environment;
mod inputs;
mod non_numeric;
mod stages;
mod types;
mod undo;
