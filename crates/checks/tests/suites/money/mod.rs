//! Money is never guessed: what a repair refuses, what it writes, and what an audit does not call clean.

mod balances;
pub(crate) mod environment;
mod inputs;
mod non_numeric;
mod stages;
mod types;
mod undo;
